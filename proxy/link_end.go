package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"time"

	"mailgate/router"
)

// How a link ends: pressed (End), or because one of its ends is gone. Whoever ends it, pumpDown finishes it.

// End implements router.Ender.
func (l *link) End(p router.Pressure, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	if l.pressure == 0 {
		l.judge()
	}
	l.pressure, l.text = max(p, l.pressure), text
	stuck := l.writing && l.stuckIn && !l.owes && l.writes == l.stuckAt && l.track.ReadsPending()
	if p == router.CutReads {
		l.judge()
	}
	if p == router.Cut || p == router.CutReads && stuck {
		// A client who has not taken a byte of what he asked to read since the last request will not see a BYE.
		l.ended, l.reason = true, text
		_ = l.front.SetWriteDeadline(longAgo())
	}
	l.wake()
	l.changed.Broadcast()
}

// judge notes what is being written to the client: the next request judges what he took since this one. l.mu is held.
func (l *link) judge() { l.stuckAt, l.stuckIn = l.writes, l.writing }

// Resume implements router.Ender.
func (l *link) Resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pressure = 0
	l.changed.Broadcast()
}

// longAgo as a deadline ends what waits.
func longAgo() time.Time { return time.Unix(1, 0) }

// wake makes pumpDown look around; l.mu is held.
func (l *link) wake() { _ = l.back.SetReadDeadline(longAgo()) }

// tryEnd ends the session if it is pressed and stands at a boundary; l.mu is held.
func (l *link) tryEnd() bool {
	if l.ended {
		return true
	}
	switch l.pressure {
	case router.AtBoundary:
		l.ended = l.track.Boundary()
	case router.CutReads:
		l.ended = l.track.ReadsOnly()
	case router.Cut:
		l.ended = true
	}
	if l.ended {
		l.reason = l.text
	}
	return l.ended
}

// clientGone hands the client's end on to the backend: what he sent before is carried out, as it would be without us.
// crypto/tls takes an end between two records for one, with or without close_notify.
func (l *link) clientGone(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.clientIn = false
	l.changed.Broadcast()
	if l.reason == "" {
		l.reason = "client closed"
	}
	// TLS knows no half of an end to many: Dovecot and Courier take a close_notify for the end of both directions, and drop the answers.
	_, l.handOn = l.back.(*tls.Conn)
	l.handOn = l.handOn && l.track.Answering()
	if errors.Is(err, io.EOF) && (l.handOn || l.closeWrite()) {
		l.silence = time.Now().Add(l.srv.afterEOF)
		_ = l.back.SetReadDeadline(l.silence)
		return
	}
	l.back.Close()
}

// closeWrite hands the client's end on, and tells whether it could.
func (l *link) closeWrite() bool {
	w, ok := l.back.(interface{ CloseWrite() error })
	return ok && w.CloseWrite() == nil
}

// woken is pumpDown's look around after its read was interrupted; false ends the session.
func (l *link) woken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.clientIn && !time.Now().Before(l.silence) {
		l.ended = true // the backend was given its time after the client's end
	}
	if l.tryEnd() {
		return false
	}
	_ = l.back.SetReadDeadline(l.silence) // none while the client is there
	return true
}

// serverGone is the end that the backend made. It returns what was held back.
func (l *link) serverGone() (rest []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return nil
	}
	l.ended, l.lost.back = true, true
	if l.reason == "" {
		l.reason = "backend closed"
	}
	if l.text == "" {
		l.text = "The mail server closed the connection, please reconnect"
	}
	return l.track.Flush()
}

// lastBytes passes on what was held back.
func (l *link) lastBytes(b []byte) {
	if len(b) == 0 {
		return
	}
	_ = l.front.SetWriteDeadline(time.Now().Add(byeTime))
	if _, err := l.front.Write(b); err != nil {
		l.mu.Lock()
		l.lost.front = true
		l.mu.Unlock()
	}
}

// finish says goodbye on both sides, the backend's first to be closed: then the router is told.
func (l *link) finish() {
	l.mu.Lock()
	l.ended = true
	l.changed.Broadcast()
	_ = l.back.SetWriteDeadline(time.Now().Add(leaveTime)) // bounds what pumpUp is sending, too
	for l.sending {
		l.changed.Wait()
	}
	var bye, leave string
	gone := l.lost.front
	if !gone && (l.clientIn || l.pressure > 0 || l.track.Answering()) { // a client who has said all, and heard all, knows that it is over
		bye = l.track.ByeLine(l.text)
	}
	if !l.lost.back && l.clientIn {
		leave = l.track.Leave()
	}
	l.mu.Unlock()

	var err error
	if bye != "" {
		_ = l.front.SetWriteDeadline(time.Now().Add(byeTime))
		_, err = io.WriteString(l.front, bye)
	}
	if w, ok := l.front.(interface{ CloseWrite() error }); ok && err == nil && !gone {
		_ = w.CloseWrite()
	}
	_ = l.front.SetReadDeadline(time.Now().Add(time.Second))

	if leave != "" {
		_ = l.back.SetDeadline(time.Now().Add(leaveTime))
		if _, err := io.WriteString(l.back, leave); err == nil {
			discard(l.back)
		}
	}
	l.back.Close()
	l.sess.Done()
}

// abandon ends a session whose client was gone before it began.
func (l *link) abandon(reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reason = reason
	l.front.Close()
}

// broken ends a session at once whose pump has panicked: the other one must not wait for it, nor a drain.
func (l *link) broken() {
	l.mu.Lock()
	l.ended, l.sending, l.reason = true, false, "panic"
	l.lost.front, l.lost.back = true, true
	l.changed.Broadcast()
	l.mu.Unlock()
	l.front.Close()
	l.back.Close()
	l.sess.Done()
}

// pumpDone closes and reports when the second pump ends.
func (l *link) pumpDone() {
	defer l.srv.wg.Done()
	if p := recover(); p != nil {
		l.srv.panicked(l.sess.Client, p)
		l.broken()
	}
	if l.left.Add(-1) > 0 {
		return
	}
	l.front.Close()
	l.back.Close()
	l.uncount()
	s := l.sess
	if l.track.ChangesPending() {
		l.srv.changed(s.User, s.Protocol)
	}
	lived := time.Since(s.Started)
	l.srv.rec.SessionEnd(s.Protocol, s.Side, lived, l.up, l.down)
	l.srv.over(s.User, s.Side, s.Protocol, l.cut)
	l.log.Info("session end", "protocol", s.Protocol, "session", s.ID, "user", s.User, "side", s.Side.String(),
		"epoch", s.Epoch, "host", s.Host, "client", s.Client.String(), "bytes_up", l.up, "bytes_down", l.down,
		"seconds", lived.Seconds(), "reason", l.reason)
}

// service is the one of its host that the session stands at.
func (l *link) service() service { return service{l.sess.Side, l.sess.Host, l.sess.Protocol} }

// idle tells whether the client waits for nothing and the server has not said that it goes; l.mu is held.
func (l *link) idle() bool { return l.track.Boundary() && l.track.ByeLine("") != "" }

// rest leaves a client in peace whose server is gone, or has said that it goes, beside many others: until his time comes, he says
// something or leaves, or the session is asked to end. Nothing is held for him but his connection.
func (l *link) rest() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || !l.clientIn || l.pressure > 0 || l.resting || !l.leaving && !l.idle() {
		return
	}
	d := l.srv.spread.ended(l.service(), time.Now(), l.srv.set.Load().cfg.Limits.DisconnectSpread)
	if d == 0 {
		return
	}
	l.resting = true
	l.back.Close() // or the host would seem to have a session that is none
	t := time.AfterFunc(d, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.rouse()
	})
	defer t.Stop()
	for !l.awake && !l.ended && l.clientIn && l.pressure == 0 {
		l.changed.Wait()
	}
}

// rouse ends a rest; l.mu is held.
func (l *link) rouse() {
	l.awake = true
	l.changed.Broadcast()
}
