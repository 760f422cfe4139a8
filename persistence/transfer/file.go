// Package transfer moves mailboxes between stores: out of one into a file, and
// from there into another, of another kind. Revisions, message ids, dedup
// entries, the positions taken from sources, and keys stay what they are.
// transfer.proto has the file's format.
//
// A file holds the keys that seal the bodies in it: whoever can read it can read
// everything.
package transfer

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/persistence"
)

// magic begins a file.
const magic = "TEGAMIX1"

// fileVersion is the version of the format.
const fileVersion = 1

// maxFrame bounds a frame that is read.
const maxFrame = 64 << 20

// ErrFile says that a file is not one that can be imported: it is of another
// kind or version, incomplete, or damaged.
var ErrFile = errors.New("not an export that can be read")

// writer writes frames and counts what is in them.
type writer struct {
	to    *bufio.Writer
	sum   hash.Hash
	total Counts
}

func newWriter(to io.Writer) (*writer, error) {
	w := &writer{to: bufio.NewWriterSize(to, 1<<20), sum: sha256.New()}
	return w, w.bytes([]byte(magic))
}

func (w *writer) bytes(b []byte) error {
	_, _ = w.sum.Write(b)
	_, err := w.to.Write(b)
	return err
}

func (w *writer) frame(kind isFrame_Kind) error {
	data, err := proto.Marshal(&Frame{Kind: kind})
	if err != nil {
		return err
	}
	return w.bytes(append(binary.AppendUvarint(nil, uint64(len(data))), data...))
}

// close writes the trailer. The file is not synced.
func (w *writer) close() error {
	t := w.total
	trailer := &Trailer{Mailboxes: t.Mailboxes, Rows: t.Rows, Dedup: t.Dedup, Sources: t.Sources, StateParts: t.StateParts, Sha256: w.sum.Sum(nil)}
	if err := w.frame(&Frame_Trailer{trailer}); err != nil {
		return err
	}
	return w.to.Flush()
}

// read calls visit for each frame of a file but the trailer, which it checks at
// the end. Errors: ErrFile, and the visitor's.
func read(from io.Reader, visit func(*Frame) error) (*Trailer, error) {
	r := bufio.NewReaderSize(from, 1<<20)
	sum := sha256.New()
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != magic {
		return nil, fmt.Errorf("%w: it does not begin with %s", ErrFile, magic)
	}
	_, _ = sum.Write(head)
	for frames := 0; ; frames++ {
		length, err := binary.ReadUvarint(r)
		if err != nil || length > maxFrame {
			return nil, fmt.Errorf("%w: it ends in the middle, or is damaged", ErrFile)
		}
		data := make([]byte, length)
		if _, err := io.ReadFull(r, data); err != nil {
			return nil, fmt.Errorf("%w: it ends in the middle", ErrFile)
		}
		frame := new(Frame)
		if err := proto.Unmarshal(data, frame); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFile, err)
		}
		if trailer := frame.GetTrailer(); trailer != nil {
			if !bytes.Equal(trailer.GetSha256(), sum.Sum(nil)) {
				return nil, fmt.Errorf("%w: its checksum is wrong", ErrFile)
			}
			if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("%w: something follows its end", ErrFile)
			}
			return trailer, nil
		}
		if (frames == 0) != (frame.GetHeader() != nil) || frame.GetKind() == nil {
			return nil, fmt.Errorf("%w: a frame of a kind that is not known, or out of place", ErrFile)
		}
		_, _ = sum.Write(binary.AppendUvarint(nil, length))
		_, _ = sum.Write(data)
		if err := visit(frame); err != nil {
			return nil, err
		}
	}
}

func toPosition(p persistence.Position) *Position {
	return &Position{Generation: p.Generation, Offset: p.Offset}
}

func (p *Position) position() persistence.Position {
	return persistence.Position{Generation: p.GetGeneration(), Offset: p.GetOffset()}
}

func toDedup(e *persistence.DedupEntry) *Dedup {
	return &Dedup{
		Key: bytes.Clone(e.Key[:]), BodyHash: bytes.Clone(e.BodyHash[:]), MessageId: bytes.Clone(e.MessageID[:]),
		Time: e.Time, Revision: e.Revision, Reason: uint32(e.Reason), Position: toPosition(e.Position),
	}
}

func (d *Dedup) entry() (e persistence.DedupEntry, err error) {
	if len(d.GetKey()) != len(e.Key) || len(d.GetBodyHash()) != len(e.BodyHash) || len(d.GetMessageId()) != len(e.MessageID) || d.GetReason() > 255 {
		return e, fmt.Errorf("%w: a dedup entry of other sizes", ErrFile)
	}
	copy(e.Key[:], d.GetKey())
	copy(e.BodyHash[:], d.GetBodyHash())
	copy(e.MessageID[:], d.GetMessageId())
	e.Time, e.Revision, e.Reason, e.Position = d.GetTime(), d.GetRevision(), uint8(d.GetReason()), d.GetPosition().position()
	return e, nil
}
