package main

import (
	"context"
	"reflect"
	"slices"
	"time"

	"mailgate/config"
)

// windowLook is how often it is looked whether first copies may be made: clocks and files change.
const windowLook = 10 * time.Second

// windows lets first copies be made within sync.windows. Those that are under way when a window closes end, and go on in the next one.
func (kp *keeping) windows(ctx context.Context) {
	was := true
	for {
		now := time.Now()
		open, until := kp.s.windowOpen(now)
		kp.k.Copies(open)
		if was && !open {
			for _, u := range kp.k.Copying() {
				kp.s.endBackground(u, errWindow)
			}
		}
		was = open
		wait := windowLook
		if d := until.Sub(now); !until.IsZero() && d > 0 {
			wait = min(wait, d)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// watchEvery is how often it is looked who is to be watched: sessions come and go.
const watchEvery = 5 * time.Second

// watch says who is to be watched: those who are kept, and not paused. Where they are more than there may be connections, those with a
// session go first.
func (kp *keeping) watch(ctx context.Context) {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	hosts := kp.s.g.conf.Load()
	for {
		conf := kp.s.g.conf.Load()
		most := conf.Sync.Watch
		if hosts != conf && !reflect.DeepEqual(hosts.Backends, conf.Backends) { // nobody listens at a host that is none any more
			kp.w.Set(nil)
		}
		hosts = conf
		var users []string
		kp.mu.Lock()
		for u := range kp.users {
			if _, paused := kp.pauseOf(u); !paused && most > 0 {
				users = append(users, u)
			}
		}
		kp.mu.Unlock()
		users = slices.DeleteFunc(users, func(u string) bool { // before the first pass there is enough to do
			st, ok := kp.k.State(u)
			return !ok || st.Last.IsZero()
		})
		online := map[string]bool{}
		for _, s := range kp.s.g.router.Sessions("") {
			online[s.User] = true
		}
		kp.k.Online(online)
		kp.w.Prefer(online)
		wanted := make(map[string]config.Side, len(users))
		for _, u := range users {
			wanted[u] = kp.s.g.manager().Side(u)
			if p, known := kp.s.g.router.Lookup(u); known {
				wanted[u] = p.Side
			}
		}
		kp.w.SetMax(most)
		kp.w.Set(wanted)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// sizeTime bounds the look at one user's size.
const sizeTime = 30 * time.Second

// sizes looks who had his first copy before this process began, and how much those have who wait for it: small mailboxes come first.
// Where it cannot be told, the copy will tell why.
func (kp *keeping) sizes(ctx context.Context) {
	known := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-kp.added:
		}
		for _, user := range kp.k.Fresh() {
			if kp.through(ctx, user) {
				kp.k.Through(user)
			}
		}
		for _, user := range kp.k.Fresh() {
			if known[user] || ctx.Err() != nil {
				continue
			}
			known[user] = true
			e := kp.take()
			look, cancel := context.WithTimeout(ctx, sizeTime)
			if x, err := e.Size(look, user); err == nil {
				kp.k.Size(user, x)
			}
			cancel()
			kp.put(e)
		}
	}
}
