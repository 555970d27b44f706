package syncer

import (
	"fmt"
	"runtime/debug"
)

// PanicError is a defect of the program that ended a pass. What the pass was at is looked for by the next one, as after a crash; the
// sessions of users, which the process serves too, go on.
type PanicError struct {
	Value any
	Stack []byte // for the log
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("a defect of mailgate ended this: %v", e.Value)
}

// safely runs f, and makes an error of a panic. Each goroutine of a pass needs its own.
func safely(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{v, debug.Stack()}
		}
	}()
	return f()
}
