package config

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"time"
)

// Side is one of the two backends. The zero value is Old: a user without a row is on OLD.
type Side uint8

const (
	Old Side = iota
	New
)

// Sides lists both, for loops.
var Sides = [2]Side{Old, New}

// String gives "old" or "new", as the routes file has it.
func (s Side) String() string {
	if s == New {
		return "new"
	}
	return "old"
}

// Other is the opposite side.
func (s Side) Other() Side { return s ^ 1 }

// Protocol names a client protocol, as metrics and logs show it.
type Protocol string

const (
	IMAP       Protocol = "imap"
	POP3       Protocol = "pop3"
	Submission Protocol = "submission"
	Sieve      Protocol = "sieve" // ManageSieve (RFC 5804)
)

// Protocols are those that clients of the gateway speak, for loops.
func Protocols() []Protocol { return []Protocol{IMAP, POP3, Submission, Sieve} }

// TLSMode says how a connection comes to be encrypted.
type TLSMode uint8

const (
	Plain    TLSMode = iota // imap://, pop3://, submission://, sieve://: never encrypted
	StartTLS                // imap+starttls:// and the like: in clear until STARTTLS (STLS), which is required
	Implicit                // imaps://, pop3s://, submissions://, sieves://: TLS from the first byte
)

// Endpoint is a mail service as a URL: scheme is protocol and TLS mode, host and port the address.
type Endpoint struct {
	URL      string // as written
	Protocol Protocol
	Mode     TLSMode
	Host     string // "" on a listener means all addresses, IPv4 and IPv6
	Port     int
	Proxied  bool // "+proxy": each connection begins with a PROXY header, which says who the client is
	Insecure bool // "+insecure": plain text off loopback was asked for by name

	// OldTLS is the oldest version that a listener takes, "1.0" or "1.1", where that is older than tls.min_version ("?tls=1.0"). ""
	// means tls.min_version.
	OldTLS string
}

// Address is host:port as net.Dial and net.Listen take it.
func (e Endpoint) Address() string { return joinHostPort(e.Host, e.Port) }

// Config is mailgate.yaml. It is immutable once loaded; packages take their section by value.
type Config struct {
	File     string // where it was read
	Hostname string // in greetings and EHLO
	Node     string // names this process among several gateways; "" is the machine's name
	Listen   []Endpoint
	// ProxyNetworks are the balancers that may say who a client is, on listeners with "+proxy".
	ProxyNetworks []netip.Prefix
	TLS           TLS
	Backends      [2]Backend // indexed by Side
	Routes        Routes
	Store         Store
	Control       Control
	Admin         Admin
	Login         Login
	Authority     Verifiers
	Submit        Submit
	Flip          Flip
	Hooks         []Hook
	Sync          Sync
	Waves         []Wave // those that are listed, in their order, see Config.Wave
	Gates         Gates  // of waves that set nothing else
	Limits        Limits
	Log           Log
	Shutdown      time.Duration     // how long serve waits for sessions to reach a boundary when it ends
	source        map[string]string // key -> where its value comes from
}

// TLS is what the listeners present.
type TLS struct {
	Certificates []Certificate // chosen by SNI; the first is for clients that send none
	MinVersion   string        // "1.2" (default) or "1.3"
	ClientCA     string        // PEM file: who shows a certificate that these have signed may log in with it (EXTERNAL); "" means nobody
	TicketKeys   string        // file of keys for session tickets, see the function TicketKeys; "" means keys of this process alone
	ACME         ACME
}

// Certificate is a PEM chain and its key. Both are read again when the files change.
type Certificate struct{ Cert, Key string }

// Backend is one side.
type Backend struct {
	Hosts         []Host
	Login         string // template of the login name: {address}, {local}, {domain}
	ClientAddress bool   // the hosts trust us: tell them the client's address by IMAP ID and XCLIENT
	ProxyProtocol bool   // connections begin with a PROXY header, version 2
	Auth          string // how passwords are shown: "plain", "login", or "auto": as the hosts list it
	// NoInitialResponse has the first response of SASL wait until the host has asked for it.
	NoInitialResponse bool
	CA                string        // PEM file; "" means the system's roots
	Pins              []string      // "sha256/BASE64" of a SubjectPublicKeyInfo; when set, one must match
	ServerName        string        // name to verify; "" means the host's
	ConnectTimeout    time.Duration // dial, TLS and banner, each
	LoginTimeout      time.Duration // from banner to the answer to AUTHENTICATE or AUTH
	MaxConnections    int           // per host, 0 means no cap
	MaxLogins         int           // of users that are under way at a time, per service of a host; 0 means no cap
	LoginWait         time.Duration // for a turn where there are as many, and for a host that was well a moment ago
	Sync              SyncLogin
	SyncLimits        SyncLimits
}

// SyncLimits is how much of a side the syncer takes, over all users; 0 means no limit of its own.
type SyncLimits struct {
	MaxConnections    int // to one host; of max_connections it takes a half at most, and leaves a quarter free
	MessagesPerSecond int64
	BytesPerSecond    int64
}

// SyncLogin is how the syncer logs in at a side as a user: by a file of passwords, by a master login, by a command that
// prints OAuth tokens, or by passwords learned at login. All empty means that this side cannot be synced.
type SyncLogin struct {
	Secrets        string   // file: address and password, a line each
	MasterUser     string   // who may act as anyone
	MasterPassword string   // file with his password
	MasterLogin    string   // "authzid" (SASL PLAIN), or the name to log in with: {login} and {master} are filled in
	SieveNames     string   // how scripts name mailboxes there: "auto", "utf-8" or "utf-7"
	TokenCommand   []string // prints an access token; the user's address is in its environment as MAILGATE_USER
	Learned        bool     // what the user logged in with through the gateway, see Learn
}

// Configured tells whether there is any.
func (s SyncLogin) Configured() bool {
	return s.Secrets != "" || s.MasterUser != "" || len(s.TokenCommand) > 0 || s.Learned
}

// Sync is how mailboxes are kept equal.
type Sync struct {
	Connections int           // to each side, for one user
	Batch       int           // messages in one APPEND, at most
	Settle      time.Duration // how long a mailbox must stand still before an append of unknown outcome is done again
	Grace       time.Duration // before a folder that is gone on one side is deleted on the other
	Confirm     time.Duration // for how long deletes that look like an accident must have been held back before they may be released
	Rename      []Pair        // OLD's name and NEW's
	Exclude     []string      // names on OLD, with * and % as in LIST
	Waves       []string      // those that have started: their users' mailboxes are kept equal; "*" is everybody in the routes file
	Passes      int           // users at once
	Watch       int           // users of whom the side that decides tells by itself, by NOTIFY or IDLE: a connection each
	Poll        time.Duration // the longest between two looks at a user in whose mailboxes nothing changes
	Use         []Pair        // special use such as \Sent, and NEW's name
	Windows     Windows       // when first copies are made by themselves; none means always. Whoever has had his is kept equal at any time

	UserMessagesPerSecond int64 // of each user; 0 means no limit
	UserBytesPerSecond    int64
}

// Pair is two names that belong together.
type Pair struct{ From, To string }

// Host is one machine of a side: a name that the routes file may use, and its services.
type Host struct {
	Name       string
	IMAP       Endpoint
	POP3       Endpoint // zero when the side has none
	Submission Endpoint // the same
	Sieve      Endpoint // the same
}

// Routes says how the routes file is read and how addresses compare.
type Routes struct {
	File          string
	LocalPart     string        // "fold" (default) or "exact": whether Alice and alice are one user
	Subaddress    string        // separators, each one character, "+" by default; "" turns sub-addresses off
	DefaultDomain string        // appended to login names without "@"; "" leaves them
	Watch         time.Duration // how often mailgate.yaml and the file are looked at; 0 turns watching off
	ApproveShare  float64       // an import that would move more than this share of all users waits for op approve
	ApproveMin    int           // ... unless it moves at most this many
}

// Store is where the actual state lives.
type Store struct {
	Path string // SQLite
	URL  Secret // PostgreSQL instead; "" means SQLite. A password may stand in it
}

// Control is the socket that verbs talk to, mode 0600.
type Control struct{ Socket string }

// Admin is the HTTP listener of /healthz, /readyz and /metrics. Empty means none.
type Admin struct{ Listen string }

// Login is how clients may log in.
type Login struct {
	Mechanisms  []string      // SASL mechanisms offered; PLAIN and LOGIN always work over TLS, the others only where both sides have them
	FailDelay   time.Duration // longest delay of a refusal
	MaxFailures int           // refusals on one connection before it is closed
	Learn       Learn
}

// Learn is what is kept of the passwords of users in the routes file, when they log in.
type Learn struct {
	Key    string        // file with an age identity: passwords, encrypted, with which the syncer logs in; "" means that none is kept or used
	Expire time.Duration // from the last login with a password until what is kept of it is erased

	Hash         bool          // a strong hash of each, for NEW's user database
	Hook         []string      // command and arguments, run once for each user and password, which provisions NEW; none means that there is none
	HookTime     time.Duration // how long it may take
	HookParallel int           // how many may run at once
}

// Submit is the submission front.
type Submit struct {
	BareNewlines string // "refuse" (default) or "normalize"
	MaxSize      int64  // cap on SIZE, besides what the backends say; 0 means only theirs
}

// Flip bounds a flip.
type Flip struct {
	Deadline time.Duration // FENCE to RELEASE
	Hold     time.Duration // how long a login waits for a fence before its temporary failure
	Parallel int           // users fenced at once
	Prepare  int           // users whose mailboxes are brought together at once, before their flips to NEW
	Delta    string        // whether flips carry mail: "auto" (default): where a sync login is configured; "require"; "off"
	HoldFile string        // while it exists no flip passes; its first line is shown as the reason. "" means none
}

// Limits are the caps of section 4 of the design.
type Limits struct {
	PreAuth          int           // connections that have not logged in, in all; the oldest gives way
	PreAuthPerIP     int           // the same for one address (IPv6: one /64)
	PerListener      int           // connections of one listener, before and after login, 0 means no cap
	SessionsPerUser  int           // 0 means no cap
	SessionsPerIP    int           // authenticated sessions of one address (IPv6: one /64), 0 means no cap
	DisconnectSpread time.Duration // over which the clients of a host that goes down are let go, when they are many; 0 means at once
	Handshake        time.Duration // TLS handshake
	PreAuthTime      time.Duration // from accept to login, in all
	CommandTime      time.Duration // for one line before login
	DataTime         time.Duration // without progress in DATA or BDAT, and for the next SMTP command after login
	LineLength       int           // bytes of a command line before login
	LiteralLength    int           // bytes of a literal before login
}

// Log says how serve logs.
type Log struct {
	Format string // "text" or "json"
	Level  slog.Level
}

// Secret is a string that no log, error or dump shows.
type Secret string

// String gives "***".
func (Secret) String() string { return "***" }

// GoString gives "***", for %#v.
func (Secret) GoString() string { return "***" }

// LogValue gives "***", for slog.
func (Secret) LogValue() slog.Value { return slog.StringValue("***") }

// Format gives "***" for every verb, also those that do not fit a string.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "***") }

// MarshalText gives "***", for JSON and YAML.
func (Secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

// Reveal gives the secret itself. Only what sends it to a backend may call this.
func (s Secret) Reveal() string { return string(s) }

// Route is one user's line of the routes file.
type Route struct {
	Address string // canonical
	Side    Side
	Wave    string
	Login   [2]string // login name per side; "" means the backend's template
	Host    [2]string // host name per side; "" means any of the side's
	Line    int

	Authority Authority // who verifies him; "" means the default
}

// Pattern is a line such as "*@sales.example.com new": for users who have no line and no row.
type Pattern struct {
	Domain string // what follows "*@", canonical; "*" for "*"
	Route
}

// RouteFile is the parsed routes file. It is immutable.
type RouteFile struct {
	File     string
	Serial   string // SHA-256 of the content, hex
	Default  Side   // "default old|new", Old when the file has none
	Patterns []Pattern
	Users    map[string]*Route // by canonical address
	Logins   map[string]string // per-side login name -> canonical address, "" when it is several users'; no address in Users
}
