package backend

import (
	"context"
	"errors"
	"io"
	"time"

	"mailgate/auth"
	"mailgate/config"
)

// Account is who logs in for the syncer, which has no client behind it.
type Account struct {
	Credentials *auth.Credentials
	LoginName   string // the name that authenticates
	Authzid     string // PLAIN with an authorization identity (RFC 4616): whose mailbox is opened; "" means LoginName's
}

// Client is an IMAP connection that is logged in, for the syncer and other programs of ours (not for splicing).
//
// Commands are pipelined: each method that returns a command has written it (or queued it behind those that must end
// first) when it returns, and Wait gives its outcome. One goroutine reads what the server says and calls handlers in the
// order of the responses; a handler that blocks stops the reading, and so the server. Methods are safe for concurrent
// use; commands go out in the order of the calls.
//
// Deadlines are by progress: a connection that neither takes nor gives a byte for Idle while something is outstanding
// has failed. After an error of the connection every outstanding and every later command fails with it.
type Client struct{}

// DialClient connects, logs in and learns the capabilities. The error is an *Error.
func (d *Dialer) DialClient(ctx context.Context, at config.Side, host string, who Account) (*Client, error) {
	return nil, errors.New("stub")
}

// Close ends the connection at once; Logout ends it by LOGOUT, waiting as long as ctx lets it. Both wait for the reader.
func (c *Client) Close() error                     { return nil }
func (c *Client) Logout(ctx context.Context) error { return nil }

// Has tells whether the server offers a capability, in any letter case; Capabilities lists them, upper case.
func (c *Client) Has(capability string) bool { return false }
func (c *Client) Capabilities() []string     { return nil }
func (c *Client) Host() string               { return "" }

// Done is closed when the connection has ended; Err says why then.
func (c *Client) Done() <-chan struct{} { return nil }
func (c *Client) Err() error            { return nil }

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

// Command is one that was sent. Wait returns nil for a tagged OK, a *StatusError for NO and BAD, else the error of the
// connection. When ctx ends first Wait returns its cause and the command goes on. Wait may be called more than once, from
// any goroutine.
type Command struct{}

func (c *Command) Wait(ctx context.Context) error { return errors.New("stub") }

// Code is the response code of the tagged response; valid after Wait.
func (c *Command) Code() Code { return Code{} }

// Noop, Enable, ID. Enable leaves out what the server does not offer; Enabled tells what is on after its Wait.
func (c *Client) Noop() *Command                         { return nil }
func (c *Client) Enable(capabilities ...string) *Command { return nil }
func (c *Client) Enabled(capability string) bool         { return false }

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

// SetUntagged replaces the handlers.
func (c *Client) SetUntagged(u Untagged) {}

// Namespace is one of NAMESPACE (RFC 2342).
type Namespace struct {
	Prefix    string
	Separator byte // 0 means flat
}

// Namespaces are those of an account; without the extension Personal holds what LIST "" "" says.
type Namespaces struct{ Personal, Other, Shared []Namespace }

func (c *Client) Namespace(ctx context.Context) (Namespaces, error) { return Namespaces{}, nil }

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

// List calls f for each mailbox, in the server's order, when all are known.
func (c *Client) List(ctx context.Context, o ListOptions, f func(ListEntry) error) error { return nil }

// StatusCommand is STATUS of one mailbox; Wait gives the result.
type StatusCommand struct{ Command }

func (c *Client) Status(name string, items ...string) *StatusCommand { return nil }
func (c *StatusCommand) Result(ctx context.Context) (Status, error)  { return Status{}, nil }
func (c *Client) Create(name, use string) *Command                   { return nil } // use: "" or such as \Sent (RFC 6154)
func (c *Client) Delete(name string) *Command                        { return nil }
func (c *Client) Rename(from, to string) *Command                    { return nil }
func (c *Client) Subscribe(name string) *Command                     { return nil }
func (c *Client) Unsubscribe(name string) *Command                   { return nil }
func (c *Client) Quota(ctx context.Context, name string) (Quota, bool, error) {
	return Quota{}, false, nil
}
func (c *Client) Idle(ctx context.Context) error                                     { return nil } // until ctx ends: DONE, then nil
func (c *Client) Notify(ctx context.Context, spec string) error                      { return nil } // RFC 5465; "NONE" ends it
func (c *Client) Compress(ctx context.Context) error                                 { return nil } // RFC 4978
func (c *Client) ID(ctx context.Context, pairs ...string) (map[string]string, error) { return nil, nil }

// Quota is the tightest STORAGE and MESSAGE of a mailbox's quota roots (RFC 9208); limits are 0 where there are none.
type Quota struct{ Storage, StorageLimit, Messages, MessageLimit int64 } // storage in bytes

// Select opens a mailbox, read-only by EXAMINE. What was selected before is left without expunging.
func (c *Client) Select(name string, o SelectOptions) *SelectCommand { return nil }

// Unselect leaves the mailbox without expunging: UNSELECT, or EXAMINE and CLOSE where that is missing.
func (c *Client) Unselect() *Command { return nil }

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

// SelectCommand is SELECT or EXAMINE.
type SelectCommand struct{ Command }

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

// CanKeep tells whether a flag will stay: PERMANENTFLAGS has it or, for a keyword, \*.
func (s *Selected) CanKeep(flag string) bool { return false }

func (c *SelectCommand) Result(ctx context.Context) (*Selected, error) { return nil, nil }

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

// Fetch is UID FETCH. An error of a handler ends the connection (the rest of the response cannot be un-asked for) and
// comes back from Wait.
func (c *Client) Fetch(uids string, o FetchOptions) *Command { return nil }

// Search is UID SEARCH; criteria raw, such as "ALL" or "UNDELETED". f gets ascending ranges where the server has ESEARCH,
// and single numbers in the server's order otherwise. UIDs only of messages that exist: a range of ESEARCH is as dense as the server says.
func (c *Client) Search(criteria string, f func(Range)) *Command { return nil }

// StoreOptions of UID STORE. Flags are raw.
type StoreOptions struct {
	Add, Remove    []string // one of them; never both
	UnchangedSince uint64
	Modified       func(Range) // [MODIFIED], and UIDs that were not changed for it
}

// Store is UID STORE +FLAGS.SILENT or -FLAGS.SILENT.
func (c *Client) Store(uids string, o StoreOptions) *Command { return nil }

// CopyCommand is UID COPY or UID MOVE.
type CopyCommand struct{ Command }

// Copied pairs UIDs by position (COPYUID, RFC 4315). Both are empty where the server does not tell.
type Copied struct {
	Validity uint32
	From, To []uint32
}

func (c *Client) Copy(uids, to string) *CopyCommand               { return nil }
func (c *Client) Move(uids, to string) *CopyCommand               { return nil } // needs MOVE
func (c *CopyCommand) Result(ctx context.Context) (Copied, error) { return Copied{}, nil }

// Expunge is UID EXPUNGE (needs UIDPLUS); with uids "" plain EXPUNGE.
func (c *Client) Expunge(uids string) *Command { return nil }

// Append is one APPEND command, with one message or, where the server has MULTIAPPEND, several. Next begins a message
// and returns what its bytes are written to: exactly size of them. Finish ends the command. With LITERAL+ (or LITERAL- up to
// 4096 bytes) nothing is waited for; otherwise Next waits for the server's "+", and when the server says NO instead, Next
// and Finish tell it with the connection unharmed. Between Append and Finish no other command can be sent (callers wait).
type Append struct{}

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

func (c *Client) Append(ctx context.Context, name string) *Append { return nil }

func (a *Append) Next(ctx context.Context, m AppendMessage) (io.Writer, error) { return nil, nil }

// Finish ends the command and flushes. Abandon gives up in the middle of a message, which costs the connection: what
// was begun is not stored by any server that keeps RFC 3501.
func (a *Append) Finish() *AppendCommand { return nil }
func (a *Append) Abandon(err error)      {}

// AppendCommand is an APPEND that was sent whole.
type AppendCommand struct{ Command }

func (c *AppendCommand) Result(ctx context.Context) (Appended, error) { return Appended{}, nil }

// MultiAppend tells whether several messages may go in one Append.
func (c *Client) MultiAppend() bool { return c.Has("MULTIAPPEND") }
