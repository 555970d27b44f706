package faulty

// Product is what tells hosts apart.
type Product struct {
	Name           string
	Separator      string
	Prefix         string // of the personal namespace, such as "INBOX."
	Capabilities   string
	Keywords       bool   // the mailbox keeps keywords
	Forgets        bool   // it says that it keeps them, takes them with OK, and keeps none
	RenameRenumber bool   // RENAME gives the mailbox a new UIDVALIDITY
	Events         string // that NOTIFY knows, where Capabilities have it
	MailboxID      bool   // mailboxes have an identity (RFC 8474)
}

// The products are so far apart as those that they are named after; what they have in common is not told.
func Dovecot() Product {
	return Product{Name: "dovecot", Separator: "/", Keywords: true,
		Capabilities: "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE NAMESPACE UIDPLUS MOVE MULTIAPPEND CONDSTORE QRESYNC ESEARCH UNSELECT LIST-EXTENDED LIST-STATUS SPECIAL-USE BINARY"}
}

// DovecotPrefixed is a Maildir++ with everything below INBOX.
func DovecotPrefixed() Product {
	p := Dovecot()
	p.Name, p.Separator, p.Prefix = "dovecot with INBOX.", ".", "INBOX."
	return p
}

// Cyrus has LITERAL- only and tells identities of mailboxes.
func Cyrus() Product {
	return Product{Name: "cyrus", Separator: "/", Keywords: true, MailboxID: true,
		Capabilities: "IMAP4rev1 LITERAL- SASL-IR ID ENABLE IDLE NAMESPACE UIDPLUS MOVE MULTIAPPEND CONDSTORE QRESYNC ESEARCH UNSELECT LIST-EXTENDED LIST-STATUS SPECIAL-USE CREATE-SPECIAL-USE OBJECTID"}
}

// Courier knows neither CONDSTORE nor MOVE, waits before each literal, and renumbers what it renames.
func Courier() Product {
	return Product{Name: "courier", Separator: ".", Prefix: "INBOX.", Keywords: true, RenameRenumber: true, Capabilities: "IMAP4rev1 UIDPLUS NAMESPACE IDLE"}
}

// Plain is RFC 3501 and no extension at all: no UIDPLUS, no NAMESPACE, no keywords.
func Plain() Product {
	return Product{Name: "plain", Separator: "/", Capabilities: "IMAP4rev1"}
}
