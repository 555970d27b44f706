package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"mailgate/admin"
	"mailgate/cutover"
	wavegate "mailgate/cutover/gate"
	"mailgate/op"
)

// signalsPath is how the gateway that leads asks the others what they have counted, with the mark of what it has heard.
const signalsPath = "/signals"

// gatherTime bounds the wait for what other nodes have counted. Who does not answer leaves gates unknown, and is asked at the next look.
const gatherTime = 3 * time.Second

// gatherSignals asks all other nodes what they have counted: gate.Gather.
func (g *gateway) gatherSignals(ctx context.Context, heard func(node string) wavegate.Mark, tell func(node string, s wavegate.Snapshot)) (names, silent []string, err error) {
	if g.member == nil { // a verb that looks
		nodes, err := g.shared.Nodes(ctx)
		for _, n := range nodes {
			names = append(names, n.Name)
		}
		return names, names, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, gatherTime, errSilentNode)
	defer cancel()
	nodes, wire, away, err := g.asked(ctx)
	if err != nil {
		return nil, nil, err
	}
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		if _, ok := away[n.Name]; ok {
			errs[i] = errSilentNode
			continue
		}
		wg.Go(func() { errs[i] = hearSignals(ctx, wire, n, heard, tell) })
	}
	wg.Wait()
	for i, n := range nodes {
		names = append(names, n.Name)
		if errs[i] != nil {
			g.log.Debug("what another node has counted is not known", "node", n.Name, "err", errs[i])
			silent = append(silent, n.Name)
		}
	}
	return names, silent, nil
}

// hearSignals has one node tell all that it has counted since it was asked last.
func hearSignals(ctx context.Context, wire cutover.Asker, n op.Node, heard func(node string) wavegate.Mark, tell func(node string, s wavegate.Snapshot)) error {
	for {
		from := heard(n.Name)
		form := url.Values{"of": {from.Of}, "upto": {strconv.FormatUint(from.Upto, 10)}}
		reply, err := cutover.AskNode(ctx, wire, n, cutover.Call{Method: http.MethodGet, Path: signalsPath, Form: form})
		if err != nil {
			return err
		}
		var s wavegate.Snapshot
		if reply.Status != http.StatusOK {
			return fmt.Errorf("%d: %s", reply.Status, reply.Body)
		}
		if err := json.Unmarshal(reply.Body, &s); err != nil {
			return err
		}
		if tell(n.Name, s); !s.More {
			return nil
		}
	}
}

// tellSignals answers it.
func (g *gateway) tellSignals(form url.Values) cutover.Reply {
	if !g.gates.Loaded() || g.leaving.lent.Load() && !g.leaving.apart.Load() { // what it has counted is not in the store yet
		b, _ := json.Marshal(admin.Failure{Error: "that node has only just begun, or is handed over; ask again", Exit: admin.ExitUnknown})
		return cutover.Reply{Status: http.StatusServiceUnavailable, Body: b}
	}
	if g.leaving.lent.Load() { // what was counted until then is in the store, and another process tells it
		b, _ := json.Marshal(wavegate.Snapshot{Of: "handed over", Series: []wavegate.Series{}})
		return cutover.Reply{Status: http.StatusOK, Body: b}
	}
	upto, err := strconv.ParseUint(form.Get("upto"), 10, 64)
	var b []byte
	if err == nil {
		b, err = json.Marshal(g.gates.Snapshot(wavegate.Mark{Of: form.Get("of"), Upto: upto}))
	}
	if err != nil {
		b, _ = json.Marshal(admin.Failure{Error: errors.Join(errors.New("what this node has counted"), err).Error(), Exit: admin.ExitFailed})
		return cutover.Reply{Status: http.StatusBadRequest, Body: b}
	}
	return cutover.Reply{Status: http.StatusOK, Body: b}
}
