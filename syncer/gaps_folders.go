package syncer

import (
	"fmt"
	"strings"

	"mailgate/backend"
)

// namespacesGap counts mailboxes of others that the user may open on OLD. They are not opened.
func namespacesGap(old *gapSide) Gap {
	const do = "a shared mailbox moves with its owner; have its rights given again on NEW, and move those who share it together"
	switch {
	case old.err != nil:
		return unknown(GapNamespaces, do, "OLD could not be asked: %s", whyNot(old.err))
	case !old.has("NAMESPACE") && !old.has("IMAP4REV2"):
		return unknown(GapNamespaces, do, "OLD does not tell (no NAMESPACE)")
	case old.errs[askSpaces] != nil:
		return unknown(GapNamespaces, do, "%s", whyNot(old.errs[askSpaces]))
	}
	var things []GapThing
	for _, e := range old.others {
		things = append(things, GapThing{Folder: old.naming.shown(e.Name), What: "a mailbox of others"})
	}
	why := ""
	if err := old.errs[askOthers]; err != nil {
		why = whyNot(err)
	}
	return counted(GapNamespaces, things, fmt.Sprintf("%d mailboxes of others that he may open on OLD", len(things)), "he has no mailbox of others", why, do)
}

// subscriptionsGap counts subscriptions to folders that do not exist: NEW would refuse them, or show what is not there.
func subscriptionsGap(old *gapSide) Gap {
	const do = "nothing, unless the folder is to come back: on NEW he subscribes to it then"
	switch {
	case old.err != nil:
		return unknown(GapSubscriptions, do, "OLD could not be asked: %s", whyNot(old.err))
	case old.errs[askSubscribed] != nil:
		return unknown(GapSubscriptions, do, "%s", whyNot(old.errs[askSubscribed]))
	}
	var things []GapThing
	for _, e := range old.subscribed {
		if old.there[peekName(e.Name)] && !hasAttribute(e.Attributes, `\NonExistent`) {
			continue
		}
		if hasAttribute(e.Attributes, `\Noselect`) && old.subscribedBelow(e) { // LSUB shows what stands above a subscribed folder
			continue
		}
		things = append(things, GapThing{Folder: old.naming.shown(e.Name), What: "he is subscribed to it, and it does not exist"})
	}
	return counted(GapSubscriptions, things, fmt.Sprintf("%d subscriptions to folders that do not exist", len(things)),
		"each folder that he is subscribed to exists, or is a mailbox of others", "", do)
}

func (g *gapSide) subscribedBelow(above backend.ListEntry) bool {
	for _, e := range g.subscribed {
		if above.Separator != 0 && strings.HasPrefix(e.Name, above.Name+string(above.Separator)) {
			return true
		}
	}
	return false
}

// specialUseGap counts marks such as \Sent that the folder on NEW lacks.
func specialUseGap(old, newer *gapSide, k *gapKnown) Gap {
	const do = "have the administrator of NEW mark the folders, or choose them in the mail program: else it makes new ones"
	if old.err != nil {
		return unknown(GapSpecialUse, do, "OLD could not be asked: %s", whyNot(old.err))
	}
	marked := map[string]string{} // raw name on OLD -> mark
	for _, e := range old.own {
		if use := useOf(e.Attributes); use != "" {
			marked[e.Name] = use
		}
	}
	switch {
	case len(marked) == 0:
		return counted(GapSpecialUse, nil, "", "OLD marks no folder", "", "")
	case newer.err != nil:
		return unknown(GapSpecialUse, do, "NEW could not be asked: %s", whyNot(newer.err))
	case !k.passed():
		return unknown(GapSpecialUse, do, "%v", errNoPass)
	}
	uses := map[string]string{}
	for _, e := range newer.own {
		uses[peekName(e.Name)] = useOf(e.Attributes)
	}
	var things []GapThing
	for _, e := range old.own {
		to := k.partner[peekName(e.Name)]
		if use := marked[e.Name]; use != "" && (to == "" || uses[peekName(to)] != use) {
			things = append(things, GapThing{Folder: old.naming.shown(e.Name), What: use + " on OLD, and not on NEW"})
		}
	}
	return counted(GapSpecialUse, things, fmt.Sprintf("%d folders have a mark on OLD that they lack on NEW", len(things)),
		"the folders that OLD marks are marked on NEW", "", do)
}
