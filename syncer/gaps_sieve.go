package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mailgate/backend"
	"mailgate/config"
)

// Kinds of what is told by ManageSieve.
const (
	GapScripts  GapKind = "scripts"  // Sieve scripts that were not carried, or not wholly
	GapVacation GapKind = "vacation" // who has been answered already: no host tells (RFC 5230, section 4.2)
)

const (
	scriptsDo  = "see mailgate sync run USER, which names what the other host says, and verify USER; mend the script with the user, or give the host the extension"
	vacationDo = "nothing, mostly: whoever writes to him within the days of the vacation is answered once more by the other host"
)

// SieveGaps is a GapSource: scripts of OLD that NEW does not have, and automatic answers, whose memory of who was answered does not travel. It logs
// in at OLD's ManageSieve, and reads the scripts.
func (s *Syncer) SieveGaps(ctx context.Context, user string) ([]Gap, error) {
	rows, err := s.o.Store.Scripts(ctx, user)
	if err != nil {
		return nil, err
	}
	old, err := s.scriptsOf(ctx, config.Old, user)
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	if err != nil {
		why := whyNot(err)
		if errors.Is(err, backend.ErrNoHost) {
			why = "backends.old.sieve is not set: whether he has filters, and automatic answers, cannot be seen"
		}
		return []Gap{unknown(GapScripts, scriptsDo, "%s", why), unknown(GapVacation, vacationDo, "%s", why)}, nil
	}
	var left, answers []GapThing
	told := map[string]bool{}
	for _, x := range rows {
		if x.State != ScriptEqual {
			told[x.Name] = true
			left = append(left, GapThing{What: fmt.Sprintf("script %q: %s", oneLine(x.Name, 100), oneLine(x.Why, 300))})
		}
	}
	there, lacking, untold := map[string]bool{}, "is not on NEW", ""
	switch list, err := s.namesOf(ctx, config.New, user); {
	case errors.Is(err, backend.ErrNoHost):
		lacking = "NEW has no ManageSieve (backends.new.sieve)"
	case err != nil:
		lacking, untold = "", "NEW's ManageSieve: "+whyNot(err)
	default:
		for _, x := range list {
			there[x.Name] = true
		}
	}
	unread := ""
	for _, x := range old {
		if lacking != "" && !there[x.name] && !told[x.name] {
			left = append(left, GapThing{What: fmt.Sprintf("script %q: %s", oneLine(x.name, 100), lacking)})
		}
		if x.vacation {
			answers = append(answers, GapThing{What: fmt.Sprintf("script %q answers by itself (vacation)", oneLine(x.name, 100)), Perhaps: !x.active})
		}
		if x.err != "" {
			unread = x.err
		}
	}
	return []Gap{
		counted(GapScripts, left, "Sieve scripts that are not on NEW as they are on OLD", fmt.Sprintf("of %d Sieve scripts on OLD each is on NEW", len(old)), untold, scriptsDo),
		counted(GapVacation, answers, "mail to him is answered automatically: NEW does not know whom OLD has answered", "no automatic answer is active", unread, vacationDo),
	}, nil
}

// namesOf lists a user's scripts of a side.
func (s *Syncer) namesOf(ctx context.Context, side config.Side, user string) ([]backend.SieveScript, error) {
	ctx, cancel := context.WithTimeout(ctx, gapTime)
	defer cancel()
	c, err := s.openScripts(ctx, side, user)
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = c.Logout(ctx)
		_ = c.Close()
	}()
	return c.List(ctx)
}

// oldScript is a script as the other side has it.
type oldScript struct {
	name             string
	active, vacation bool
	err              string // why it could not be read
}

func (s *Syncer) openScripts(ctx context.Context, side config.Side, user string) (*backend.SieveClient, error) {
	if s.o.OpenSieve == nil {
		return nil, backend.ErrNoHost
	}
	return s.o.OpenSieve(ctx, side, user, false)
}

// scriptsOf reads a user's scripts of a side.
func (s *Syncer) scriptsOf(ctx context.Context, side config.Side, user string) (out []oldScript, err error) {
	ctx, cancel := context.WithTimeout(ctx, gapTime)
	defer cancel()
	c, err := s.openScripts(ctx, side, user)
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = c.Logout(ctx)
		_ = c.Close()
	}()
	list, err := c.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, x := range list {
		if strings.HasPrefix(x.Name, SieveProof) {
			continue
		}
		one := oldScript{name: x.Name, active: x.Active}
		text, err := c.Get(ctx, x.Name)
		switch {
		case err == nil:
			refs, perr := findSieve(text)
			if perr != nil {
				one.err = fmt.Sprintf("script %q cannot be read: %v", oneLine(x.Name, 100), perr)
				break
			}
			one.vacation = slices.Contains(refs.requires, "vacation") || slices.Contains(refs.requires, "vacation-seconds")
		case backend.SieveRefused(err) != nil || errors.Is(err, backend.ErrScriptSize):
			one.err = fmt.Sprintf("script %q cannot be read: %s", oneLine(x.Name, 100), oneLine(err.Error(), 300))
		default:
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}
