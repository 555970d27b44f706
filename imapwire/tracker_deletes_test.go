package imapwire

import (
	"reflect"
	"testing"
)

var everything = Spans{{1, 1<<32 - 1}}

// TestTrackerDeletes: what is proof of deletes, byte by byte and whole.
func TestTrackerDeletes(t *testing.T) {
	in := Deletes{Mailbox: NameHash("Trash"), Validity: 7}
	is := func(uids Spans, most uint32, marked Spans) Deletes {
		d := in
		d.UIDs, d.Most, d.Marked = uids, most, marked
		return d
	}
	all := Spans{{1, 49}}
	selected := [2]string{"s SELECT Trash\r\n", "* 4 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 50] x\r\ns OK [READ-WRITE] x\r\n"}
	for _, x := range []struct {
		name string
		talk []string // the client's and the server's, in turns
		want []Deletes
	}{
		{"by UID, silently", []string{"a UID STORE 3:5,9 +FLAGS.SILENT (\\Seen \\deleted)\r\n", "a OK\r\n", "b EXPUNGE\r\n", "* 1 EXPUNGE\r\nb OK\r\n"}, []Deletes{is(Spans{{3, 5}, {9, 9}}, 1, everything)}},
		{"and told as VANISHED", []string{"a UID STORE 3:5 +FLAGS \\Deleted\r\n", "a OK\r\n", "b EXPUNGE\r\n", "* VANISHED 3:5\r\nb OK\r\n"}, []Deletes{is(Spans{{3, 5}}, 3, everything)}},
		{"all by number, then CLOSE", []string{"a STORE 1:* +FLAGS.SILENT (\\Deleted)\r\n", "a OK\r\n", "b CLOSE\r\n", "b OK\r\n"}, []Deletes{is(all, 4, everything)}},
		{"all by number, told as EXPUNGE", []string{"a STORE 1:4 FLAGS (\\Deleted)\r\n", "a OK\r\n", "b EXPUNGE\r\n", "* 1 EXPUNGE\r\n* 1 EXPUNGE\r\nb OK\r\n"}, []Deletes{is(all, 2, everything)}},
		{"some by number", []string{"a STORE 2:3 +FLAGS (\\Deleted)\r\n", "* 2 FETCH (FLAGS (\\Deleted))\r\na OK\r\n", "b EXPUNGE\r\n", "* 2 EXPUNGE\r\n* 2 EXPUNGE\r\n* 1 EXPUNGE\r\nb OK\r\n"}, []Deletes{is(all, 2, everything)}},
		{"some by number, told as VANISHED", []string{"a STORE 2:3 +FLAGS (\\Deleted)\r\n", "a OK\r\n", "b EXPUNGE\r\n", "* VANISHED 8:9\r\nb OK\r\n"}, []Deletes{is(all, 2, everything)}},
		{"by number, and another goes before", []string{"a STORE 2:3 +FLAGS (\\Deleted)\r\n", "a OK\r\n", "n NOOP\r\n", "* 1 EXPUNGE\r\nn OK\r\n", "b EXPUNGE\r\n", "* 2 EXPUNGE\r\n* 2 EXPUNGE\r\nb OK\r\n"}, []Deletes{is(all, 2, everything)}},
		{"by number, and one of them goes before", []string{"a STORE 2:3 +FLAGS (\\Deleted)\r\n", "a OK\r\n", "n NOOP\r\n", "* 2 EXPUNGE\r\nn OK\r\n", "b CLOSE\r\n", "b OK\r\n"}, []Deletes{is(all, 1, everything)}},
		{"what is left is emptied", []string{"i IDLE\r\n", "+ go\r\n* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n", "DONE\r\na UID STORE 1:* +FLAGS (\\Deleted)\r\na UID STORE 1:* +FLAGS (\\Deleted)\r\n", "i OK\r\na OK\r\na OK\r\n", "b CLOSE\r\n", "b OK\r\n"}, []Deletes{is(all, 1, everything)}},
		{"nothing marked here", []string{"b EXPUNGE\r\n", "* 2 EXPUNGE\r\nb OK\r\n"}, []Deletes{is(nil, 0, everything)}},
		{"idle while all goes", []string{"i IDLE\r\n", "+ go\r\n* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n* VANISHED 1:400\r\n", "DONE\r\n", "* 1 EXPUNGE\r\ni OK\r\n"}, nil},
		{"marked and not expunged", []string{"a UID STORE 1:9 +FLAGS (\\Deleted)\r\n", "a OK\r\n", "b UNSELECT\r\n", "b OK\r\n"}, nil},
		{"marked, and another mailbox selected", []string{"a UID STORE 1:9 +FLAGS (\\Deleted)\r\n", "a OK\r\n", "s SELECT Trash\r\n", selected[1], "b EXPUNGE\r\n", "b OK\r\n"}, []Deletes{is(nil, 0, everything)}},
		{"marked, partly taken off", []string{"a UID STORE 1:9 +FLAGS (\\Deleted)\r\nb UID STORE 3:4 -FLAGS (\\Deleted)\r\nc UID STORE 8 FLAGS (x)\r\n", "a OK\r\nb OK\r\nc OK\r\n", "d CLOSE\r\n", "d OK\r\n"}, []Deletes{is(Spans{{1, 2}, {5, 7}, {9, 9}}, 4, everything)}},
		{"taken off, nobody knows of which", []string{"a UID STORE 1:9 +FLAGS (\\Deleted)\r\nb STORE 3 -FLAGS (\\Deleted)\r\n", "a OK\r\nb OK\r\n", "d EXPUNGE\r\n", "d OK\r\n"}, []Deletes{is(nil, 0, everything)}},
		{"marked where unchanged", []string{"a UID STORE 1:9 (UNCHANGEDSINCE 5) +FLAGS (\\Deleted)\r\n", "a OK [MODIFIED 1:8] x\r\n", "d EXPUNGE\r\n", "d OK\r\n"}, []Deletes{is(nil, 0, everything)}},
		{"other flags", []string{"a UID STORE 1:9 +FLAGS (\\DeletedNot $Deleted Deleted)\r\n", "a OK\r\n", "d EXPUNGE\r\n", "d OK\r\n"}, []Deletes{is(nil, 0, everything)}},
		{"refused", []string{"a UID STORE 1:9 +FLAGS (\\Deleted)\r\n", "a NO no\r\n", "b UID MOVE 4 x\r\n", "* 1 EXPUNGE\r\nb NO\r\n", "c EXPUNGE\r\n", "c NO\r\n", "d DELETE x\r\n", "d NO\r\n"}, nil},
		{"UID EXPUNGE of more than what is marked", []string{"a UID STORE 3:6 +FLAGS (\\Deleted)\r\n", "a OK\r\n", "b UID EXPUNGE 5:99\r\n", "* 1 EXPUNGE\r\nb OK\r\n"}, []Deletes{is(Spans{{5, 6}}, 1, Spans{{5, 99}})}},
		{"UID MOVE", []string{"a UID MOVE 3:6,44:* x\r\n", "* OK [COPYUID 1 3:6 1:4] x\r\n* 1 EXPUNGE\r\na OK\r\n"}, []Deletes{is(Spans{{3, 6}, {44, 49}}, 1, nil)}},
		{"UID MOVE to a literal", []string{"a UID MOVE 3:6 {3+}\r\nx y\r\n", "* 1 EXPUNGE\r\na OK\r\n"}, []Deletes{is(Spans{{3, 6}}, 1, nil)}},
		{"MOVE", []string{"a MOVE 2:3 x\r\n", "* 2 EXPUNGE\r\n* 2 EXPUNGE\r\na OK\r\n"}, []Deletes{is(all, 2, nil)}},
		{"MOVE while others go", []string{"a MOVE 2 x\r\n", "* 2 EXPUNGE\r\n* 2 EXPUNGE\r\n* 1 EXPUNGE\r\na OK\r\n"}, []Deletes{is(all, 1, nil)}},
		{"new mail", []string{"n NOOP\r\n", "* 6 EXISTS\r\nn OK\r\n", "a UID MOVE 1:* x\r\n", "* 1 EXPUNGE\r\n* 1 EXPUNGE\r\na OK\r\n"}, []Deletes{is(Spans{{1, 51}}, 2, nil)}},
		{"more than there is", []string{"a UID MOVE 1:4294967295 x\r\n", "* 1 EXPUNGE\r\na OK\r\n"}, []Deletes{is(everything, 1, nil)}},
		{"a folder", []string{"a DELETE \"a\\\"b\"\r\n", "a OK\r\n"}, []Deletes{{Mailbox: NameHash(`a"b`), Folder: true}}},
		{"opened to look only", []string{"s EXAMINE Trash\r\n", selected[1], "b CLOSE\r\n", "b OK\r\n"}, nil},
		{"opened to look only, says the server", []string{"s SELECT Trash\r\n", "* OK [UIDVALIDITY 7] x\r\ns OK [read-only] x\r\n", "b CLOSE\r\n", "b OK\r\n"}, nil},
		{"not opened", []string{"s SELECT Gone\r\n", "s NO\r\n", "b EXPUNGE\r\n", "b OK\r\n"}, nil},
		{"no UIDVALIDITY", []string{"s SELECT Trash\r\n", "* 3 EXISTS\r\ns OK\r\n", "b EXPUNGE\r\n", "b OK\r\n"}, nil},
		{"no UIDNEXT", []string{"s SELECT {5}\r\n", "+ go\r\n", "Trash\r\n", "* 3 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\ns OK\r\n", "a UID STORE 1:* +FLAGS (\\Deleted)\r\n", "a OK\r\n", "b EXPUNGE\r\n", "* 1 EXPUNGE\r\n* 1 EXPUNGE\r\nb OK\r\n"}, []Deletes{is(everything, 2, everything)}},
		{"pipelined", []string{"s SELECT Trash\r\na UID STORE 1:9 +FLAGS (\\Deleted)\r\nb EXPUNGE\r\n", selected[1] + "a OK\r\n* 1 EXPUNGE\r\nb OK\r\n"}, []Deletes{is(nil, 0, everything)}},
		{"pipelined in the mailbox", []string{"a UID STORE 1:9 +FLAGS (\\Deleted)\r\nb EXPUNGE\r\nc STORE 1:* +FLAGS (\\Deleted)\r\nd CLOSE\r\n", "a OK\r\n* 1 EXPUNGE\r\nb OK\r\nc OK\r\nd OK\r\n"}, []Deletes{is(Spans{{1, 9}}, 1, everything), is(all, 3, everything)}},
	} {
		for _, size := range []int{1, 5, 1000} {
			var tr Tracker
			feedClient(&tr, selected[0], size)
			feedServer(&tr, selected[1], size)
			var got []Deletes
			for i, s := range x.talk {
				if i%2 == 0 {
					feedClient(&tr, s, size)
				} else {
					feedServer(&tr, s, size)
				}
				got = append(got, tr.TakeDeletes()...)
			}
			if len(got)+len(x.want) > 0 && !reflect.DeepEqual(got, x.want) {
				t.Errorf("%s, size %d:\n got %v\nwant %v", x.name, size, got, x.want)
			}
			if tr.Outstanding() > 0 || cap(tr.del.text) > 128 {
				t.Errorf("%s: %d commands left, %d bytes of text", x.name, tr.Outstanding(), cap(tr.del.text))
			}
		}
	}
}

// TestNameHash: INBOX is one in any case, other names are as they stand.
func TestNameHash(t *testing.T) {
	if NameHash("inBox") != NameHash([]byte("INBOX")) || NameHash("a") == NameHash("A") || NameHash("") != 0 || NameHash("INBOX.a") == NameHash("inbox.a") {
		t.Error("hashes")
	}
}

// TestTrackerAllocatesNothing: what most commands and answers are costs no memory.
func TestTrackerAllocatesNothing(t *testing.T) {
	var tr Tracker
	tr.Client([]byte("s SELECT Trash\r\n"), false)
	tr.Server([]byte("* 4 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\ns OK x\r\n"))
	client := []byte("a UID STORE 3 +FLAGS.SILENT (\\Seen)\r\nb UID FETCH 1:* (FLAGS)\r\nc NOOP\r\n")
	server := []byte("a OK x\r\n* 1 FETCH (UID 3 FLAGS (\\Seen))\r\nb OK x\r\n* 5 EXISTS\r\n* 1 EXPUNGE\r\nc OK x\r\n")
	if n := testing.AllocsPerRun(50, func() {
		tr.Client(client, false)
		tr.Server(server)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if tr.Outstanding() > 0 {
		t.Error("commands left")
	}
}
