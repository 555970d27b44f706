package protocol

import "fmt"

// class says what a step needs.
type class uint8

const (
	normal class = iota // the protocol goes on, or clients do something
	lead                // somebody takes over from a leader who is gone
	heal                // something comes back
	fault               // something goes wrong
)

// act is a step: what, at which node, with which detail.
type act struct {
	kind   kind
	node   uint8
	detail uint8
}

type kind uint8

const (
	actBegin kind = iota
	actWrite
	actWriteLost
	actTell
	actAgain
	actCommit
	actRefused
	actCommitLost
	actReadBack
	actAbort
	actDropsOut
	actRegistry
	actDone
	actResigns
	actTakesOver
	actDeliver
	actAsks
	actBoot
	actRegister
	actListen
	actRead
	actReread
	actLoad
	actArrives
	actRoute
	actAdmit
	actMoved
	actHoldLimit
	actLeaves
	actCrash
	actPause
	actResume
	actAnew
	actRemove
	actHold
	actUnhold
	actLose
)

func actText() map[kind]string {
	return map[kind]string{
		actBegin: "begins a flip: writes PREP", actWrite: "as leader writes %s", actWriteLost: "as leader writes %s, hears no answer and calls it off", actTell: "as leader tells the nodes", actAgain: "as leader tells again who has not answered",
		actCommit: "as leader COMMITs", actRefused: "as leader is refused COMMIT: other nodes are registered; asks those", actCommitLost: "as leader COMMITs and hears no answer (%s)",
		actReadBack: "as leader reads the row back", actAbort: "as leader aborts", actDropsOut: "as leader leaves out a node that is none any more",
		actRegistry: "as leader reads the nodes again", actDone: "as leader finds the row in other hands: it is through",
		actResigns: "learns that it leads no more", actTakesOver: "takes over as leader", actDeliver: "gets %s",
		actAsks: "asks the store, since it is fenced and hears nothing", actBoot: "starts", actRegister: "registers", actListen: "learns who leads, and listens", actRead: "reads the row",
		actReread: "reads the row again",
		actLoad:   "loads what it has read, and serves", actArrives: "gets a login", actRoute: "routes the login", actAdmit: "admits the login: a session",
		actMoved: "finds the login moved: routed anew", actHoldLimit: "answers the held login with a temporary failure", actLeaves: "has a session end, at a boundary",
		actCrash: "dies", actPause: "is stopped", actResume: "goes on", actAnew: "finds itself registered no more: ends its sessions, begins anew",
		actRemove: "is removed by the admin", actHold: "a hold is put up", actUnhold: "the hold is taken away", actLose: "never gets %s",
	}
}

// describe words a step, with the messages as they were before it.
func (a act) describe(before *State) string {
	text := actText()[a.kind]
	switch a.kind {
	case actHold, actUnhold:
		return text
	case actWrite, actWriteLost:
		text = fmt.Sprintf(text, stateNames()[a.detail])
	case actCommitLost:
		text = fmt.Sprintf(text, [2]string{"it was not written", "it was written"}[a.detail])
	case actDeliver, actLose:
		text = fmt.Sprintf(text, before.Msg[a.detail])
	}
	return string('A'+rune(a.node)) + " " + text
}
