package backend

import (
	"errors"

	"mailgate/imapwire"
)

// What the engine holds for a server, beside the scanner's own limits (imapwire.ScanWindow and those below it). A server that
// sends more loses the connection with a *LimitError; nothing is cut silently but what says so.
const (
	maxName      = 16 << 10  // bytes of a mailbox name
	maxItem      = 64 << 10  // bytes of a list of flags or capabilities; other items of FETCH are cut to as many
	maxOther     = 1 << 20   // bytes of Message.Other
	maxCode      = 4 << 20   // bytes of a response code: MODIFIED, COPYUID and APPENDUID of 350,000 sparse UIDs at least
	maxExpand    = 1 << 20   // UIDs of one command's COPYUID, or of APPENDUID
	maxMailboxes = 32 << 20  // bytes of what LIST says, kept until all is known
	maxList      = 1000      // namespaces; capabilities that are on
	maxACL       = 1 << 20   // bytes of the rights of one mailbox
	maxMetadata  = 8 << 20   // bytes of the metadata of one command
	spoolMemory  = 64 << 10  // bytes of bodies held in memory because their UID is not known yet
	spoolFiles   = 64        // such bodies of one message
	spoolDisk    = 512 << 20 // bytes of them all, beyond spoolMemory in unlinked files
)

// maxMetadataValue is what is kept of a value of metadata, in bytes; longer ones are cut, and Metadata.Size tells.
const maxMetadataValue = 4096

// LimitError means that a server has sent more than the engine holds.
type LimitError = imapwire.LimitError

func tooMany(what string, max int64) error { return &LimitError{What: what, Max: max} }

// tolerable tells whether a response that was not understood can be passed over.
func tolerable(err error) bool { return errors.Is(err, imapwire.ErrGrammar) }
