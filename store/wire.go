package store

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"mailgate/op"
)

// Times of the wire. wireLook is the longest that a message lies unseen when its notification is lost.
const (
	wireLook = time.Second
	wireTry  = 5 * time.Second
)

// Wire carries requests between nodes through a table; LISTEN and NOTIFY wake who waits. It implements cutover.Wire. Ask gets its answer
// as long as Serve runs. Nodes are told apart by their incarnations alone: what is under way outlives a change of name.
type Wire struct {
	s    *Postgres
	self op.Node

	mu      sync.Mutex
	pending map[int64]*pending // by message
	running map[int64]bool     // requests that are being carried out
	early   map[int64][]byte   // answers that were read before Ask knew its number
	given   []int64            // messages whose answer nobody waits for any more
	asking  int                // calls of Ask that do not know their number
}

type pending struct {
	to     op.Node
	answer chan []byte // of one
	gone   chan struct{}
}

// Wire makes the one of a node.
func (s *Postgres) Wire(self op.Node) *Wire {
	return &Wire{s: s, self: self, pending: map[int64]*pending{}, running: map[int64]bool{}, early: map[int64][]byte{}}
}

func channel(incarnation string) string { return "mailgate_" + incarnation }

const sqlNow = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000"

// Ask implements cutover.Wire.
func (w *Wire) Ask(ctx context.Context, to op.Node, request []byte) ([]byte, error) {
	w.mu.Lock()
	w.asking++
	w.mu.Unlock()
	var id int64
	err := w.s.write.QueryRowContext(ctx, `WITH m AS (INSERT INTO messages (node, incarnation, sender, at, request)
		SELECT name, incarnation, $2, `+sqlNow+`, $3 FROM nodes WHERE incarnation=$1 RETURNING id)
		SELECT id FROM m, LATERAL (SELECT pg_notify($4, 'request')) n`,
		to.Incarnation, w.self.Incarnation, request, channel(to.Incarnation)).Scan(&id)
	p := &pending{to: to, answer: make(chan []byte, 1), gone: make(chan struct{})}
	w.mu.Lock()
	w.asking--
	if a, ok := w.early[id]; ok && err == nil {
		p.answer <- a
	}
	if w.asking == 0 {
		clear(w.early)
	}
	if err == nil {
		w.pending[id] = p
	}
	w.mu.Unlock()
	if errors.Is(err, sql.ErrNoRows) {
		return nil, op.ErrNotAsked
	} else if err != nil {
		return nil, wrapPostgres(err)
	}
	defer func() {
		w.mu.Lock()
		delete(w.pending, id)
		w.mu.Unlock()
	}()
	select {
	case a := <-p.answer:
		return a, nil
	case <-p.gone:
		return nil, op.ErrGone
	case <-ctx.Done():
		w.mu.Lock()
		w.given = append(w.given, id)
		w.mu.Unlock()
		return nil, context.Cause(ctx)
	}
}

// Serve implements cutover.Wire.
func (w *Wire) Serve(ctx context.Context, handle func(ctx context.Context, request []byte) []byte, ready func()) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for ctx.Err() == nil {
		err := w.listen(ctx, func() {
			if ready != nil {
				ready()
				ready = nil
			}
			w.look(ctx, &wg, handle)
		})
		if ctx.Err() == nil && err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(wireLook):
			}
		}
	}
	return context.Cause(ctx)
}

// listen calls look when there may be something, until the connection fails or ctx ends.
func (w *Wire) listen(ctx context.Context, look func()) error {
	try, cancel := context.WithTimeout(ctx, wireTry)
	defer cancel()
	conn, err := pgx.ConnectConfig(try, w.s.conf.Copy())
	if err != nil {
		return err
	}
	defer func() {
		last, enough := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer enough()
		_ = conn.Close(last)
	}()
	if _, err := conn.Exec(try, "LISTEN "+pgx.Identifier{channel(w.self.Incarnation)}.Sanitize()); err != nil {
		return err
	}
	for {
		look()
		if err := w.wait(ctx, conn); err != nil {
			return err
		}
	}
}

// wait returns when there was a notification, or wireLook has passed and the connection lives.
func (w *Wire) wait(ctx context.Context, conn *pgx.Conn) error {
	short, cancel := context.WithTimeout(ctx, wireLook)
	defer cancel()
	_, err := conn.WaitForNotification(short)
	if err == nil || ctx.Err() != nil || !pgconn.Timeout(err) {
		return err
	}
	try, enough := context.WithTimeout(ctx, wireTry)
	defer enough()
	return conn.Ping(try) // a network that swallows everything says nothing by itself
}

// look takes what has come: requests to this node, and answers to what it has asked. Trouble is for the next look.
func (w *Wire) look(ctx context.Context, wg *sync.WaitGroup, handle func(ctx context.Context, request []byte) []byte) {
	try, cancel := context.WithTimeout(ctx, wireTry)
	defer cancel()
	type message struct {
		id   int64
		body []byte
	}
	read := func(query string) (out []message, err error) {
		rows, err := w.s.write.QueryContext(try, query, w.self.Incarnation)
		if err != nil {
			return nil, err
		}
		return scanAll(rows, func(s scanner) (m message, err error) {
			err = s.Scan(&m.id, &m.body)
			return m, err
		})
	}
	answers, err := read("DELETE FROM messages WHERE sender=$1 AND answer IS NOT NULL RETURNING id, answer")
	if err != nil {
		return
	}
	w.mu.Lock()
	for _, a := range answers {
		if p := w.pending[a.id]; p != nil {
			p.answer <- a.body
			delete(w.pending, a.id)
		} else if w.asking > 0 {
			w.early[a.id] = a.body
		}
	}
	w.mu.Unlock()
	requests, err := read("SELECT id, request FROM messages WHERE incarnation=$1 AND answer IS NULL ORDER BY id")
	if err != nil {
		return
	}
	for _, r := range requests {
		w.mu.Lock()
		again := w.running[r.id]
		w.running[r.id] = true
		w.mu.Unlock()
		if again {
			continue
		}
		wg.Go(func() {
			w.answer(ctx, r.id, handle(ctx, r.body))
			w.mu.Lock()
			delete(w.running, r.id)
			w.mu.Unlock()
		})
	}
	w.missing(try)
	w.mu.Lock()
	given := w.given
	w.given = nil
	w.mu.Unlock()
	if len(given) == 0 {
		return
	}
	if _, err := w.s.write.ExecContext(try, "DELETE FROM messages WHERE id = ANY($1)", given); err != nil {
		w.mu.Lock()
		w.given = append(w.given, given...)
		w.mu.Unlock()
	}
}

// answer writes one, if this node is registered still; when that fails, the request is carried out again at a later look.
func (w *Wire) answer(ctx context.Context, id int64, body []byte) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wireTry)
	defer cancel()
	var one int
	_ = w.s.write.QueryRowContext(ctx, `WITH m AS (UPDATE messages SET answer=$2 WHERE id=$1
		AND EXISTS (SELECT 1 FROM nodes WHERE nodes.incarnation=$3) RETURNING sender)
		SELECT 1 FROM m, LATERAL (SELECT pg_notify('mailgate_' || sender, 'answer')) n`, id, body, w.self.Incarnation).Scan(&one)
}

// missing tells those who wait for a node that is registered no more, or whose request the database has lost.
func (w *Wire) missing(ctx context.Context) {
	w.mu.Lock()
	ids := make([]int64, 0, len(w.pending))
	for id := range w.pending {
		ids = append(ids, id)
	}
	w.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	rows, err := w.s.write.QueryContext(ctx, `SELECT m.id FROM messages m JOIN nodes n ON n.incarnation = m.incarnation
		WHERE m.id = ANY($1)`, ids)
	if err != nil {
		return
	}
	there, err := scanAll(rows, func(s scanner) (id int64, err error) {
		err = s.Scan(&id)
		return id, err
	})
	if err != nil {
		return
	}
	known := map[int64]bool{}
	for _, id := range there {
		known[id] = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		if p := w.pending[id]; p != nil && !known[id] {
			close(p.gone)
			delete(w.pending, id)
		}
	}
}
