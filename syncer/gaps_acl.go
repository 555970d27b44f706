package syncer

import (
	"fmt"
	"slices"
	"strings"

	"mailgate/backend"
	"mailgate/config"
)

// foreign leaves out the rights of the owner himself, and those that the host gives its administrators everywhere.
func (g *gapSide) foreign(list []backend.Right) (out []backend.Right) {
	self := []string{g.login, g.user, "owner"}
	named := func(name string) bool {
		return slices.ContainsFunc(list, func(r backend.Right) bool { return strings.EqualFold(r.Identifier, name) })
	}
	if !named(g.login) && !named(g.user) { // else the bare name is somebody else's, of another domain
		self = append(self, localPart(g.login), localPart(g.user))
	}
	for _, r := range list {
		switch {
		case slices.ContainsFunc(self, func(s string) bool { return s != "" && strings.EqualFold(s, r.Identifier) }):
		case g.product == "Courier" && r.Identifier == "administrators":
		default:
			out = append(out, r)
		}
	}
	return out
}

// localPart is what stands before the @, or all of it.
func localPart(name string) string {
	if i := strings.LastIndexByte(name, '@'); i > 0 {
		return name[:i]
	}
	return name
}

// samePerson tells whether two hosts name the same one: some write the domain, some do not, and some say what kind of name it is.
func samePerson(a, b string) bool {
	a, b = strings.ToLower(strings.TrimPrefix(a, "user=")), strings.ToLower(strings.TrimPrefix(b, "user="))
	return a == b || localPart(a) == b || a == localPart(b)
}

// letters are rights as RFC 4314 has them, in section 2.1.1: c and d stand for several. What only one product has is left out, and p (post),
// which says nothing where mail is delivered by other means.
func letters(rights string) string {
	rights = strings.ToLower(rights)
	if strings.Contains(rights, "c") && !strings.ContainsAny(rights, "kx") {
		rights += "k"
	}
	if strings.Contains(rights, "d") && !strings.ContainsAny(rights, "te") {
		rights += "te"
	}
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("lrswikxtea", r) {
			return r
		}
		return -1
	}, rights)
}

// inOrder are rights as RFC 4314 lists them; servers give them in any order.
func inOrder(rights string) string {
	const order = "lrswipkxtecda"
	b := []byte(rights)
	slices.SortStableFunc(b, func(x, y byte) int { return strings.IndexByte(order, x) - strings.IndexByte(order, y) })
	return string(b)
}

// given tells whether a list gives a right, or takes it away.
func given(list []backend.Right, want backend.Right) bool {
	return slices.ContainsFunc(list, func(r backend.Right) bool {
		has := letters(r.Rights)
		return r.Negative == want.Negative && samePerson(r.Identifier, want.Identifier) &&
			!strings.ContainsFunc(letters(want.Rights), func(c rune) bool { return c != 'x' && !strings.ContainsRune(has, c) })
	})
}

const doRights = "tell those who are named; when the user is on NEW, give the rights there by hand (his mail program, or the administrator of NEW)"

// aclGap counts rights of others on OLD that NEW does not give.
func aclGap(old, newer *gapSide, k *gapKnown) Gap {
	switch {
	case old.err != nil:
		return unknown(GapACL, doRights, "OLD could not be asked: %s", whyNot(old.err))
	case !old.has("ACL"):
		return unknown(GapACL, "ask the administrator of OLD whether folders are shared there", "OLD does not tell (no ACL)")
	}
	var things []GapThing
	people := map[string]bool{}
	for _, e := range old.own {
		name := k.partner[peekName(e.Name)]
		for _, r := range old.foreign(old.rights[e.Name]) {
			if name != "" && given(newer.rights[name], r) {
				continue
			}
			people[strings.ToLower(r.Identifier)] = true
			what := fmt.Sprintf("%s may %s", oneLine(r.Identifier, 200), oneLine(inOrder(r.Rights), 50))
			if r.Negative {
				what = fmt.Sprintf("%s may not %s", oneLine(r.Identifier, 200), oneLine(inOrder(r.Rights), 50))
			}
			things = append(things, GapThing{Folder: old.naming.shown(e.Name), What: what})
		}
	}
	return counted(GapACL, things, fmt.Sprintf("%d rights of %d others to his folders are not on NEW", len(things), len(people)),
		"nobody else has rights to his folders that NEW lacks", old.refusedFor(askRights), doRights)
}

// refusedFor says how many folders a question was not answered about, and why for the first of them; "" when it was for all.
func (g *gapSide) refusedFor(question string) string {
	n, first := 0, ""
	for _, e := range g.own {
		if err := g.errs[question+e.Name]; err != nil {
			if n++; n == 1 {
				first = fmt.Sprintf("%s: %s", g.naming.shown(e.Name), whyNot(err))
			}
		}
	}
	var why []string
	if n > 0 {
		why = append(why, fmt.Sprintf("%s does not tell of %s (%s)", g.title, folderCount(n), first))
	}
	if g.left > 0 {
		why = append(why, fmt.Sprintf("only the first %s were asked about", folderCount(mostGapFolders)))
	}
	return strings.Join(why, "; ")
}

func folderCount(n int) string {
	if n == 1 {
		return "1 folder"
	}
	return fmt.Sprintf("%d folders", n)
}

// rightsGap counts folders of NEW that mail may not be written into, by their rights, or by what passes were told.
func rightsGap(newer *gapSide, k *gapKnown) Gap {
	const do = "have the administrator of NEW give the user (or the master login) the rights lrswite to the folder; then mailgate quarantine retry"
	var things []GapThing
	shown := map[string]bool{}
	for _, m := range k.boxes {
		rights, told := newer.mine[m.Name[config.New]]
		if m.Name[config.Old] == "" || !told {
			continue
		}
		have := letters(rights)
		missing := strings.Map(func(r rune) rune {
			if strings.ContainsRune(have, r) {
				return -1
			}
			return r
		}, "lrswite")
		if missing != "" {
			shown[m.Name[config.Old]] = true
			things = append(things, GapThing{Folder: folderTitle(m.Name[config.Old]), What: "NEW does not give the rights " + missing})
		}
	}
	refused := map[int64]int{}
	for _, q := range k.waiting {
		if q.Reason == "permission" {
			refused[q.Mailbox]++
		}
	}
	for _, m := range k.boxes {
		if n := refused[m.ID]; n > 0 && !shown[m.Name[config.Old]] {
			things = append(things, GapThing{Folder: folderTitle(m.Name[config.Old]), What: fmt.Sprintf("NEW let no mail be written into it: %s", messagesWait(n))})
		}
	}
	why := ""
	switch {
	case newer.err != nil:
		why = "NEW could not be asked: " + whyNot(newer.err)
	case !k.passed():
		why = errNoPass.Error()
	default:
		why = newer.refusedFor(askMine)
	}
	return counted(GapRights, things, fmt.Sprintf("%s on NEW cannot be written into", folderCount(len(things))), "mail can be written into all folders on NEW", why, do)
}
