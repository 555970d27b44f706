package syncer

import "container/heap"

// dueQueue is a heap of users by when they are due.
type dueQueue []*kept

func (q dueQueue) Len() int           { return len(q) }
func (q dueQueue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q dueQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push and Pop are heap's.
func (q *dueQueue) Push(x any) {
	u := x.(*kept)
	u.place = len(*q)
	*q = append(*q, u)
}

func (q *dueQueue) Pop() any {
	old := *q
	u := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	u.place = -1
	return u
}

// of is the queue that a user belongs to.
func (k *Keeper) of(u *kept) *dueQueue {
	if !u.through {
		return &k.fresh
	}
	return &k.due
}

// queue puts a user in his place; mu is held.
func (k *Keeper) queue(u *kept) {
	if u.place >= 0 {
		heap.Fix(k.of(u), u.place)
		return
	}
	heap.Push(k.of(u), u)
}

// unqueue takes a user out; mu is held.
func (k *Keeper) unqueue(u *kept) {
	if u.place >= 0 {
		heap.Remove(k.of(u), u.place)
	}
}
