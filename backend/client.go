package backend

import (
	"io"
	"time"

	"mailgate/auth"
)

// Account is who logs in for the syncer, which has no client behind it.
type Account struct {
	Credentials *auth.Credentials
	LoginName   string // the name that authenticates
	Authzid     string // PLAIN with an authorization identity (RFC 4616): whose mailbox is opened; "" means LoginName's
	Hops        int    // how many were left when the client came; 0 where nobody told, and for the syncer
}

// Code is a response code (RFC 9051, section 7.1): Name in upper case, Args the rest, raw.
type Code struct{ Name, Args string }

// StatusError is a tagged NO or BAD, or a BYE.
type StatusError struct {
	Command string // its name, such as "UID STORE"
	Status  string // "NO", "BAD", "BYE"
	Code    Code
	Text    string // printable
}

func (e *StatusError) Error() string { return e.Command + ": " + e.Status + " " + e.Text }

// Untagged are handlers for what the server says of itself. They run in the reader. Nil ones are passed over.
type Untagged struct {
	Exists   func(n uint32)
	Expunge  func(seq uint32)
	Vanished func(uids Range) // VANISHED without EARLIER (RFC 7162)
	Fetch    func(m *Message) // a FETCH that no outstanding command asked for
	Status   func(s Status)   // NOTIFY
	List     func(e ListEntry)
	Alert    func(text string)
}

// Namespace is one of NAMESPACE (RFC 2342).
type Namespace struct {
	Prefix    string
	Separator byte // 0 means flat
}

// Namespaces are those of an account; without the extension Personal holds what LIST "" "" says.
type Namespaces struct{ Personal, Other, Shared []Namespace }

// Status is what STATUS tells of a mailbox. Fields that the server did not give are zero; Has tells.
type Status struct {
	Name                                                              string // raw
	Messages, UIDNext, Validity                                       uint32
	Unseen                                                            uint32
	HighestModSeq                                                     uint64
	Size                                                              int64
	MailboxID                                                         string
	HasMessages, HasUIDNext, HasValidity, HasHighestModSeq, HasUnseen bool
}

// ListEntry is a mailbox. Names are raw, as they go back to the server.
type ListEntry struct {
	Name       string
	Separator  byte     // 0 means NIL
	Attributes []string // as sent, such as \HasNoChildren, \Noselect, \Sent
	OldName    string
	Status     *Status // where ListOptions asked for it and the server gave it
}

// ListOptions choose what List asks. Special and Status are asked for in the same command where the server can
// (RFC 5819, RFC 6154), by STATUS of each selectable mailbox (pipelined) otherwise.
type ListOptions struct {
	Pattern    string   // "*" by default
	Reference  string   //
	Special    bool     // SPECIAL-USE attributes
	Status     []string // items, such as "MESSAGES"; those that the server does not know are left out
	Subscribed bool     // only those subscribed: LIST (SUBSCRIBED), or LSUB
}

// SelectOptions ask for more. Both are left out where the server has them not.
type SelectOptions struct {
	ReadOnly  bool
	CondStore bool
	QResync   *QResync // needs Enable("QRESYNC") before
	// With QResync: what the server tells of the time since. Vanished ranges hold UIDs that may never have existed.
	Vanished func(Range)
	Fetch    func(*Message) error
}

// QResync is what is known of a mailbox (RFC 7162, section 3.2.5).
type QResync struct {
	Validity uint32
	ModSeq   uint64
	Known    string // UID set, "" for none
}

// Selected is a mailbox that was opened.
type Selected struct {
	Exists, UIDNext, Validity uint32 // UIDNext is 0 where the server does not tell
	HighestModSeq             uint64 // 0 where the mailbox has none
	Flags                     []string
	PermanentFlags            []string // nil where the server did not tell: all Flags then
	ReadOnly                  bool
	UIDNotSticky              bool
	MailboxID                 string
}

// Range is first to last, both within. Last of 0 stands for "*".
type Range struct{ First, Last uint32 }

// Message is what FETCH responses say of a message. It is valid only during the handler's call; Flags too.
type Message struct {
	Seq, UID     uint32
	Flags        []byte // raw text between the parentheses; HasFlags tells an empty list from none
	HasFlags     bool
	InternalDate time.Time // with the server's zone
	DateText     string    // as sent, without quotes; set also where it is no date
	Size         int64     // RFC822.SIZE
	ModSeq       uint64
	EmailID      string
	ThreadID     string
	Other        map[string]string // other items, raw, capped
}

// FetchOptions say what is fetched. Items are as in the protocol, without UID, which is always asked for.
type FetchOptions struct {
	Items        []string    // such as "FLAGS", "INTERNALDATE", "RFC822.SIZE", "BODY.PEEK[]"
	ChangedSince uint64      // RFC 7162; 0 means none
	Vanished     func(Range) // with ChangedSince and QRESYNC: asks for VANISHED (EARLIER)

	// Message is called once for each message, when all responses for it that belong together are read. Flags-only and
	// body-only responses for one message may come apart; each is delivered with what it holds, and UID set.
	Message func(m *Message) error
	// Body is called for each literal or string of a section, while it streams in; what Body leaves unread is skipped.
	// m.UID is always known (where the server names it behind the literal, the literal is spooled first). size is the
	// literal's. The Reader is valid only during the call.
	Body func(m *Message, section string, size int64, r io.Reader) error
}

// StoreOptions of UID STORE. Flags are raw.
type StoreOptions struct {
	Add, Remove    []string // one of them; never both
	UnchangedSince uint64
	Modified       func(Range) // [MODIFIED], and UIDs that were not changed for it
}

// Copied pairs UIDs by position (COPYUID, RFC 4315). Both are empty where the server does not tell.
type Copied struct {
	Validity uint32
	From, To []uint32
}

// AppendMessage describes a message. Date zero leaves the date to the server.
type AppendMessage struct {
	Flags  []string
	Date   time.Time
	Size   int64
	Binary bool // literal8 (RFC 3516), for NULs
}

// Appended is what APPENDUID says: as many UIDs as messages, or none.
type Appended struct {
	Validity uint32
	UIDs     []uint32
}

// Quota is the tightest STORAGE and MESSAGE of a mailbox's quota roots (RFC 9208); limits are 0 where there are none.
type Quota struct{ Storage, StorageLimit, Messages, MessageLimit int64 } // storage in bytes
