package syncer

import (
	"fmt"
	"slices"
	"strings"

	"mailgate/backend"
)

const cyrusAnnotation = "/vendor/cmu/cyrus-imapd/"

// ofServer tells whether an annotation is no person's work: what a host says of itself there, and what travels as a special use.
func ofServer(m backend.Metadata) bool {
	_, name, _ := strings.Cut(strings.TrimPrefix(m.Name, "/"), "/")
	name = "/" + name // without /private or /shared
	if name == "/specialuse" {
		return true
	}
	if strings.HasPrefix(name, "/vendor/vendor.dovecot/") {
		return true
	}
	own, ok := strings.CutPrefix(name, cyrusAnnotation)
	if !ok {
		return false
	}
	switch own, _, _ := strings.Cut(own, "/"); own {
	case "uniqueid", "synccrcs", "size", "lastupdate", "lastpop", "partition", "server", "foldermodseq", "usermodseq", "usercounters", "userrawquota",
		"hasalarms", "annotsize", "freespace", "shutdown", "mbtype", "uidvalidity":
		return true
	case "sharedseen", "duplicatedeliver": // the default is nobody's choice
		return m.Value == "false"
	case "pop3newuidl":
		return m.Value == "true"
	}
	return false
}

// folderType is what an annotation says that a folder holds, as programs of Kolab's kind write it; ok is false for other annotations.
func folderType(m backend.Metadata) (kind string, ok bool) {
	if m.Name != "/shared/vendor/kolab/folder-type" && m.Name != "/private/vendor/kolab/folder-type" {
		return "", false
	}
	kind, _, _ = strings.Cut(strings.ToLower(m.Value), ".") // event.default
	return kind, true
}

// groupware is what kind of gap a folder type is, "" for mail.
func groupware(kind string) GapKind {
	switch kind {
	case "", "mail":
		return ""
	case "event":
		return GapCalendars
	case "contact", "distributionlist":
		return GapContacts
	}
	return GapGroupware // task, note, journal, file, configuration, freebusy
}

// annotated tells whether a list has an annotation with that value.
func annotated(list []backend.Metadata, want backend.Metadata) bool {
	return slices.ContainsFunc(list, func(m backend.Metadata) bool {
		return m.Name == want.Name && m.Value == want.Value && m.Size == want.Size
	})
}

// telling says whether OLD tells of annotations. Where it does not, no is its reason; none is true where it cannot have any.
func (g *gapSide) telling() (no string, none bool) {
	switch {
	case g.err != nil:
		return "OLD could not be asked: " + whyNot(g.err), false
	case g.has("METADATA"):
		return "", false
	case g.product == "Courier":
		return "", true
	case g.has("ANNOTATEMORE"):
		return "OLD has the forerunner of METADATA only (ANNOTATEMORE), which mailgate does not ask", false
	}
	return "OLD does not tell (no METADATA)", false
}

// metadataGap counts annotations of OLD that NEW has not, but for those that say that a folder holds no mail.
func metadataGap(old, newer *gapSide, k *gapKnown) Gap {
	const do = "mostly nothing: few programs use them. Who misses comments, colours or sharing settings sets them again on NEW"
	no, none := old.telling()
	switch {
	case none:
		return counted(GapMetadata, nil, "", "Courier has no annotations", "", "")
	case no != "":
		return unknown(GapMetadata, "ask the administrator of OLD whether annotations are kept there; mostly it does not matter: few programs use them", "%s", no)
	}
	var things []GapThing
	add := func(folder, to string, known bool, list []backend.Metadata) {
		for _, m := range list {
			kind, typed := folderType(m)
			if ofServer(m) || typed && groupware(kind) != "" || known && annotated(newer.metadata[to], m) {
				continue
			}
			things = append(things, GapThing{Folder: folder, What: fmt.Sprintf("%s, %d bytes: %s", oneLine(m.Name, 200), m.Size, oneLine(m.Value, 60))})
		}
	}
	add("", "", true, old.metadata[""])
	for _, e := range old.own {
		to := k.partner[peekName(e.Name)]
		add(old.naming.shown(e.Name), to, to != "", old.metadata[e.Name])
	}
	why := old.refusedFor(askMetadata)
	if err := old.errs[askMetadata]; err != nil {
		why = strings.TrimPrefix(why+"; OLD does not tell of the account's: "+whyNot(err), "; ")
	}
	return counted(GapMetadata, things, fmt.Sprintf("%d annotations are not on NEW", len(things)), "there are no annotations that NEW lacks", why, do)
}

// plainNames are what folders of groupware are often called, in lower case. A name alone proves nothing.
func plainNames() map[string]GapKind {
	out := map[string]GapKind{}
	for kind, names := range map[GapKind]string{
		GapCalendars: "calendar calendars kalender calendrier calendario agenda kalendarz календарь kalendář",
		GapContacts:  "contacts contact kontakte kontakter contatti contactos contacten kontakty контакты addressbook adressbuch adresboek",
		GapGroupware: "tasks task aufgaben tâches attività tareas taken zadania задачи notes note notizen notities notatki заметки journal",
	} {
		for name := range strings.FieldsSeq(names) {
			out[name] = kind
		}
	}
	return out
}

// groupwareGaps count calendars, contacts, and other things that are no mail and lie among the folders of OLD: by annotation, by what Cyrus
// keeps beside the mail, and, as a perhaps, by name.
func groupwareGaps(old, newer *gapSide, k *gapKnown) []Gap {
	things, guesses := map[GapKind][]GapThing{}, map[GapKind]int{}
	names := plainNames()
	for _, e := range old.own {
		title := old.naming.shown(e.Name)
		to, typed := k.partner[peekName(e.Name)], false
		for _, m := range old.metadata[e.Name] {
			kind, ok := folderType(m)
			if !ok {
				continue
			}
			typed = true
			if g := groupware(kind); g != "" && !(to != "" && annotated(newer.metadata[to], m)) {
				things[g] = append(things[g], GapThing{Folder: title, What: "a folder of type " + oneLine(m.Value, 50)})
			}
		}
		p, ok := old.naming.parse(e.Name)
		if typed || !ok || p.inbox {
			continue
		}
		if g, ok := names[strings.ToLower(p.parts[len(p.parts)-1])]; ok {
			guesses[g]++
			things[g] = append(things[g], GapThing{Folder: title, What: "perhaps: it has such a name", Perhaps: true})
		}
	}
	for _, h := range old.hidden {
		if g, what := hiddenKind(old.naming, h); g != "" {
			things[g] = append(things[g], GapThing{Folder: old.naming.shown(h.name), What: what})
		}
	}
	do := map[GapKind]string{
		GapCalendars: "export them on OLD (CalDAV, or a mail program that knows them) and import them on NEW, or where calendars are kept from now on",
		GapContacts:  "export them on OLD (CardDAV, or a mail program that knows them) and import them on NEW, or where contacts are kept from now on",
		GapGroupware: "export them on OLD with the program that wrote them, and import them on NEW; what looks like mail in such folders is carried as mail",
	}
	words := map[GapKind]string{GapCalendars: "calendars", GapContacts: "address books", GapGroupware: "folders with tasks, notes or the like"}
	var out []Gap
	for _, kind := range []GapKind{GapCalendars, GapContacts, GapGroupware} {
		var why []string
		if no, _ := old.telling(); no != "" {
			why = append(why, no)
		} else if old.err == nil {
			if w := old.refusedFor(askMetadata); w != "" {
				why = append(why, w)
			}
		}
		if err := old.errs[askHidden]; err != nil {
			why = append(why, "OLD does not tell of folders that it keeps beside the mail: "+whyNot(err))
		}
		if n := guesses[kind]; n > 0 {
			why = append(why, fmt.Sprintf("perhaps %s: look what is in it", folderCount(n)))
		}
		found := things[kind]
		if len(found) == guesses[kind] && len(why) > 0 {
			do[kind] = "ask him, or look, whether there are " + words[kind] + " on OLD; if so, " + do[kind]
		}
		out = append(out, counted(kind, found, fmt.Sprintf("%d %s", len(found)-guesses[kind], words[kind]),
			"no "+words[kind]+" among the folders of OLD (what other programs keep beside the mail is not seen)", strings.Join(why, "; "), do[kind]))
	}
	return out
}

// hiddenKind is what a folder that LIST does not show is, "" where it is empty or the host's own.
func hiddenKind(n *naming, h hiddenFolder) (kind GapKind, what string) {
	p, ok := n.parse(h.name)
	if !ok || p.inbox || h.items == 0 {
		return "", ""
	}
	held := "it does not tell how much is in it"
	if h.items > 0 {
		held = fmt.Sprintf("%d entries", h.items)
	}
	switch strings.ToLower(p.parts[0]) {
	case "#calendars":
		return GapCalendars, "a calendar, " + held
	case "#addressbooks":
		return GapContacts, "an address book, " + held
	case "#sieve", "#notifications", "#jmap", "#jmapnotification", "#jmapsubmission", "#jmappushsubscription":
		return "", ""
	}
	return GapGroupware, "a folder that holds no mail, " + held
}
