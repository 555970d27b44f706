package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"mailgate/admin"
	"mailgate/cutover"
	"mailgate/imapwire"
	"mailgate/mailtest/lab"
	"mailgate/store"
)

// TestNodesHeedPeople: what people delete through a gateway that does not lead counts as meant, and is carried at once; also when who leads
// dies between the delete and the pass.
func TestNodesHeedPeople(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	dsn := lab.StartPostgres(t)
	var gates []*gate
	for i := range 2 {
		g := syncGate(t, l, fmt.Sprintf("node: gw%d\nstore: {url: '%s'}\n", i+1, dsn))
		text := strings.Replace(mustRead(t, g.file), "sync: {settle: 100ms, confirm: 0s", "sync: {waves: ['*'], poll: 1h, watch: 0, settle: 100ms, confirm: 2s", 1)
		if i > 0 {
			text = strings.Replace(text, "{file: routes, watch", "{file: "+gates[0].routes+", watch", 1)
		}
		g.write(g.file, text)
		gates = append(gates, g)
	}
	gw1, gw2 := gates[0], gates[1]
	const box, users = "INBOX.Discarded", 2
	var wg sync.WaitGroup
	for n := 1; n <= users; n++ {
		wg.Go(func() {
			x := lab.Dial(t, l.Old, n)
			defer x.Close()
			x.Do("CREATE %s", box)
			for i := range 20 {
				x.Append("INBOX", "", fmt.Sprintf("Subject: m %d\r\nMessage-ID: <%d.%d@example.com>\r\n\r\nhello\r\n", i, i, n))
			}
			x.Do("SELECT INBOX")
			for range discarded / 20 {
				x.Do("COPY 1:* %s", box)
			}
		})
	}
	wg.Wait()
	gw1.start()
	gw2.start()
	defer gw1.stop()
	defer gw2.stop()
	leads := func(g *gate) string {
		var list []admin.NodeInfo
		_ = ask(g, http.MethodGet, "/nodes", nil, &list)
		for _, n := range list {
			if n.Leads {
				return n.Name
			}
		}
		return ""
	}
	if name := leads(gw2); name != "gw1" {
		t.Fatalf("%q leads", name)
	}
	for n := 1; n <= users; n++ {
		until(t, "the first copy", func() bool {
			s, err := gw2.user(lab.User(n))
			return err == nil && s.Sync != nil && s.Sync.Phase == "converged" && !s.Sync.Running && messages(t, l.New, n, "Discarded") == discarded
		})
	}
	empty := func(n int) {
		t.Helper()
		x := gw2.through(t, n)
		x.do("SELECT %s", box)
		x.do(`STORE 1:* +FLAGS (\Deleted)`)
		x.do("CLOSE")
	}
	gone := func(n int) {
		t.Helper()
		until(t, "nothing is left on NEW", func() bool { return messages(t, l.New, n, "Discarded") == 0 })
		until(t, "nothing is held back", func() bool {
			s, err := gw2.user(lab.User(n))
			return err == nil && s.Sync != nil && s.Sync.Held == 0 && !s.Sync.Running
		})
	}
	empty(1)
	gone(1)

	gw1.mustVerb("sync", "pause", lab.User(2), "--reason", "test")
	empty(2)
	st, err := store.OpenPostgres(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	until(t, "it is written down", func() bool {
		all, err := st.Proofs(t.Context())
		return err == nil && len(all[lab.User(2)]) > 0
	})
	gw1.kill()
	until(t, "another leads", func() bool { return leads(gw2) == "gw2" })
	gw2.mustVerb("sync", "resume", lab.User(2))
	gone(2)
	gw1.start()
}

// TestTelling: what waits to be told is bounded and goes in order, deletes first; what may have been heard by who led before is not told
// again where it would count twice.
func TestTelling(t *testing.T) {
	g := &gateway{}
	g.member = &cutover.Member{} // which leads nothing
	tell := newTelling(g)
	spans := func(n int) (out imapwire.Spans) {
		for i := range n {
			out = out.Add(uint32(2*i+1), uint32(2*i+1))
		}
		return out
	}
	for i := range 3 * maxNotes {
		if !tell.note(noteOf(i, nil)) || !tell.note(noteOf(i%7, nil)) {
			t.Fatal("not kept")
		}
		tell.note(noteOf(i, &imapwire.Deletes{UIDs: spans(100), Most: 100}))
	}
	if len(tell.changes) != maxNotes || tell.spans > maxToldSpans || len(tell.deletes) != maxToldSpans/100 {
		t.Errorf("%d changes, %d deletes of %d spans", len(tell.changes), len(tell.deletes), tell.spans)
	}
	var last *batch
	deletes, changes := 0, 0
	for b := tell.take(); b != nil; b = tell.take() {
		if last != nil && b.number != last.number+1 {
			t.Errorf("%d behind %d", b.number, last.number)
		}
		for _, n := range b.list {
			switch {
			case n.Deletes == nil:
				changes++
			case n.User != fmt.Sprint("u", deletes) || changes > 0:
				t.Fatalf("delete %d of %s behind %d changes", deletes, n.User, changes)
			default:
				deletes++
			}
		}
		last = b
	}
	if deletes != maxToldSpans/100 || changes != maxNotes || tell.spans != 0 {
		t.Errorf("%d deletes and %d changes, %d spans left", deletes, changes, tell.spans)
	}
	b := &batch{asked: 3}
	b.list = append(b.list, noteOf(1, nil), noteOf(2, &imapwire.Deletes{UIDs: spans(3), Most: 3}), noteOf(3, &imapwire.Deletes{UIDs: spans(3), Most: 2}),
		noteOf(4, &imapwire.Deletes{Folder: true}))
	b.doubt()
	if len(b.list) != 3 || b.list[2].User != "u4" || b.asked != 0 {
		t.Errorf("%+v", b)
	}
	h := heardNotes{last: map[string]uint64{}}
	if h.again("a", 1) || !h.again("a", 1) || h.again("b", 1) || h.again("a", 2) {
		t.Error("what was heard is not known")
	}
	if h.forget(); h.again("a", 2) {
		t.Error("what was heard in a term before, and is in no store, is not taken")
	}
}

// TestWithoutOthers: one process tells nobody.
func TestWithoutOthers(t *testing.T) {
	var none *telling
	if none.note(noteOf(1, nil)) {
		t.Error("kept")
	}
	none.start(t.Context())()
}

func noteOf(i int, d *imapwire.Deletes) (n cutover.Note) {
	n.User, n.Deletes = fmt.Sprint("u", i), d
	return n
}
