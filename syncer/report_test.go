package syncer

import (
	"runtime"
	"testing"
	"weak"
)

// TestReportAlone: serve keeps the last report of everybody; what the pass has held of his mailboxes does not stay with it.
func TestReportAlone(t *testing.T) {
	p := &pass{s: New(Options{}), user: "alice@example.com", opts: RunOptions{DryRun: true}}
	defer p.s.Close()
	gone := weak.Make(p)
	r, err := p.finish(nil)
	if err != nil {
		t.Fatal(err)
	}
	p = nil
	runtime.GC()
	if gone.Value() != nil {
		t.Error("a report keeps its pass")
	}
	runtime.KeepAlive(r)
}
