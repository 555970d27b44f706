package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"mailgate/admin"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/op"
	"mailgate/syncer"
)

// TestExitOfSync holds the errors of passes and looks against the table of exit codes (design.md, section 9).
func TestExitOfSync(t *testing.T) {
	side := func(err error) error { return &syncer.SideError{Side: config.New, Err: err} }
	wrong := &syncer.WrongMailboxError{A: "a@example.com", B: "b@example.com"}
	refused := exitError{exitRefused, errors.New("no")}
	for name, test := range map[string]struct {
		err        error
		cause      error
		run, looks int
	}{
		"nothing":                     {nil, nil, exitOK, exitOK},
		"done although told to end":   {nil, errFlip, exitOK, exitOK},
		"a folder plan":               {&syncer.RefusedError{Plan: &syncer.Plan{}}, nil, exitRefused, exitRefused},
		"being moved":                 {errMoving("a@example.com"), nil, exitRefused, exitRefused},
		"another pass":                {fmt.Errorf("a: %w", syncer.ErrBusy), nil, exitRefused, exitRefused},
		"another process":             {fmt.Errorf("a: %w", syncer.ErrFenced), nil, exitRefused, exitRefused},
		"no login":                    {side(fmt.Errorf("x: %w", syncer.ErrNoLogin)), nil, exitRefused, exitRefused},
		"no proof":                    {side(unproven(config.New, "h")), nil, exitRefused, exitRefused},
		"the wrong mailbox":           {exitError{exitRefused, wrong}, nil, exitRefused, exitRefused},
		"both sides, one refuses":     {errors.Join(side(errors.New("down")), side(refused)), nil, exitRefused, exitRefused},
		"a host that is down":         {side(&backend.Error{Step: backend.StepConnect, Err: errors.New("refused")}), nil, exitUnknown, exitUnknown},
		"a password that is refused":  {side(&backend.Error{Step: backend.StepLogin, Kind: backend.AuthFailed}), nil, exitUnknown, exitUnknown},
		"a store that cannot be read": {fmt.Errorf("%w: full", op.ErrUnavailable), nil, exitFailed, exitFailed},
		"a flip came":                 {context.Canceled, errFlip, exitPartly, exitUnknown},
		"cancelled":                   {side(context.Canceled), cancelled{by: "me"}, exitPartly, exitUnknown},
		"the socket of another user":  {fmt.Errorf("%w (x)", admin.ErrNotAllowed), nil, exitRefused, exitRefused},
		"serve was killed":            {fmt.Errorf("%w (x)", admin.ErrEnded), nil, exitFailed, exitFailed},
		"the end of serve":            {context.Canceled, errClosing, exitPartly, exitUnknown},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		if test.cause != nil {
			cancel(test.cause)
		}
		for wrote, want := range map[bool]int{true: test.run, false: test.looks} {
			got, err := exitOK, ending(ctx, wrote, test.err)
			if err != nil {
				got = exitCode(err)
			}
			if got != want {
				t.Errorf("%s, wrote %v: %d, want %d (%v)", name, wrote, got, want, err)
			}
			if test.err != nil && test.cause != nil && !errors.Is(err, test.cause) {
				t.Errorf("%s: the cause is lost: %v", name, err)
			}
		}
		cancel(nil)
	}
}

// TestExitOfSeveral: one exit code for many users.
func TestExitOfSeveral(t *testing.T) {
	for _, test := range []struct {
		codes      []int
		n          int
		run, looks int
	}{
		{[]int{2}, 3, exitPartly, 2},
		{[]int{2, 2}, 2, 2, 2},
		{[]int{3}, 2, exitPartly, 3},
		{[]int{3, 3}, 2, 3, 3},
		{[]int{3, 6}, 2, 6, 6},
		{[]int{2, 3, 64}, 4, exitPartly, 3},
		{[]int{64, 64}, 2, 64, 64},
		{[]int{4, 6}, 2, exitPartly, 6},
		{[]int{4}, 1, exitPartly, exitPartly},
		{[]int{1, 3, 6}, 3, 1, 1},
	} {
		var errs []error
		for _, c := range test.codes {
			errs = append(errs, exitError{c, errors.New("x")})
		}
		if run, looks := exitOfAll(errs, test.n, false), exitOfAll(errs, test.n, true); run != test.run || looks != test.looks {
			t.Errorf("%v of %d: %d and %d, want %d and %d", test.codes, test.n, run, looks, test.run, test.looks)
		}
	}
}
