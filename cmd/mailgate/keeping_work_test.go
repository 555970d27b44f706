package main

import (
	"os"
	"strconv"
	"testing"
	"time"

	"mailgate/mailtest/lab"
	"mailgate/mailtest/people"
)

// TestKeptUnderWork lets people work on both sides while serve keeps them equal, and is killed twice: in the end both sides hold what
// they have to, nothing lost, doubled or back. MAILGATE_SEED=n has them do the same again.
func TestKeptUnderWork(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("MAILGATE_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("MAILGATE_SEED=%d", seed)
	l := lab.Start(t, lab.MailboxesOnly())
	w := &week{t: t, pairOfHosts: pairOfHosts{hosts: [2]lab.Host{l.Old, l.New}}, gate: keptGate(t, l), count: map[string]int{}}
	for n := 1; n <= 2; n++ {
		const laptop = 3 // of habits: folders are neither renamed nor deleted, which would stay on NEW for a day
		p := &person{people.New(n, laptop, seed, w.hosts, ""), w}
		if err := p.Fill(10); err != nil {
			t.Fatal(err)
		}
		w.staff = append(w.staff, p)
	}
	w.start()
	for round := range 3 {
		for range 60 {
			for _, p := range w.staff {
				if err := p.Act(); err != nil {
					t.Fatalf("%v\n%s", err, p.Story())
				}
			}
			time.Sleep(time.Duration(w.staff[0].Rnd.IntN(60)) * time.Millisecond)
		}
		if round < 2 {
			w.gate.kill()
			w.start()
		}
	}
	w.evening()
	for _, p := range w.staff {
		p.Leave()
		w.gate.mustVerb("verify", lab.User(p.N), "--deep")
	}
	w.gate.stop()
}
