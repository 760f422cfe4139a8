package h2

import (
	"encoding/binary"
	"strconv"

	"golang.org/x/net/http2"
)

const (
	frameHeaderSize = 9
	// maxFrame is the largest payload that is taken: what every peer may send
	// (RFC 9113, 6.5.2).
	maxFrame = 16_384
	// defaultWindow is what each stream and the connection start with.
	defaultWindow = 65_535
	maxWindow     = 1<<31 - 1
	streamMask    = 1<<31 - 1
)

// frameHeader is what every frame begins with.
type frameHeader struct {
	kind   http2.FrameType
	flags  http2.Flags
	stream uint32
	length int
}

func parseFrameHeader(b []byte) frameHeader {
	return frameHeader{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:   http2.FrameType(b[3]),
		flags:  http2.Flags(b[4]),
		stream: binary.BigEndian.Uint32(b[5:]) & streamMask,
	}
}

func appendFrameHeader(dst []byte, h frameHeader) []byte {
	dst = append(dst, byte(h.length>>16), byte(h.length>>8), byte(h.length), byte(h.kind), byte(h.flags))
	return binary.BigEndian.AppendUint32(dst, h.stream)
}

func appendReset(dst []byte, stream uint32, code http2.ErrCode) []byte {
	dst = appendFrameHeader(dst, frameHeader{kind: http2.FrameRSTStream, stream: stream, length: 4})
	return binary.BigEndian.AppendUint32(dst, uint32(code))
}

func appendWindowUpdate(dst []byte, stream, increment uint32) []byte {
	dst = appendFrameHeader(dst, frameHeader{kind: http2.FrameWindowUpdate, stream: stream, length: 4})
	return binary.BigEndian.AppendUint32(dst, increment)
}

func appendPing(dst []byte, flags http2.Flags, data []byte) []byte {
	dst = appendFrameHeader(dst, frameHeader{kind: http2.FramePing, flags: flags, length: 8})
	return append(dst, data[:8]...)
}

func appendGoAway(dst []byte, last uint32, code http2.ErrCode) []byte {
	dst = appendFrameHeader(dst, frameHeader{kind: http2.FrameGoAway, length: 8})
	dst = binary.BigEndian.AppendUint32(dst, last)
	return binary.BigEndian.AppendUint32(dst, uint32(code))
}

func appendSettings(dst []byte, settings ...http2.Setting) []byte {
	dst = appendFrameHeader(dst, frameHeader{kind: http2.FrameSettings, length: 6 * len(settings)})
	for _, s := range settings {
		dst = binary.BigEndian.AppendUint16(dst, uint16(s.ID))
		dst = binary.BigEndian.AppendUint32(dst, s.Val)
	}
	return dst
}

// appendHeaders writes a header block as one HEADERS frame, and as many
// CONTINUATION frames as the peer's largest payload asks for.
func appendHeaders(dst []byte, stream uint32, block []byte, end bool, largest int) []byte {
	h := frameHeader{kind: http2.FrameHeaders, stream: stream}
	if end {
		h.flags |= http2.FlagHeadersEndStream
	}
	for {
		part := block[:min(len(block), largest)]
		block = block[len(part):]
		h.length = len(part)
		if len(block) == 0 {
			h.flags |= http2.FlagHeadersEndHeaders // the same bit in both frames
		}
		dst = append(appendFrameHeader(dst, h), part...)
		if len(block) == 0 {
			return dst
		}
		h.kind, h.flags = http2.FrameContinuation, 0
	}
}

// What follows encodes header fields (RFC 7541) without a dynamic table: what a
// connection was sent before does not matter, and nothing is kept for it.

// tableSizeZero tells the peer's decoder that its table stays empty, so that no
// setting of the peer's about the table can be broken. It goes before the
// first block of a connection.
const tableSizeZero = 0x20

// staticNames has the index of names in HPACK's static table that answers use.
var staticNames = map[string]uint64{
	":status": 8, "accept-ranges": 18, "allow": 22, "cache-control": 24, "content-disposition": 25,
	"content-encoding": 26, "content-language": 27, "content-length": 28, "content-location": 29,
	"content-range": 30, "content-type": 31, "date": 33, "etag": 34, "last-modified": 44, "link": 45,
	"location": 46, "retry-after": 53, "server": 54, "set-cookie": 55, "vary": 59, "www-authenticate": 61,
}

// staticStatus has the index of whole :status fields.
var staticStatus = map[int]byte{200: 8, 204: 9, 206: 10, 304: 11, 400: 12, 404: 13, 500: 14}

func appendStatus(dst []byte, status int) []byte {
	if index, ok := staticStatus[status]; ok {
		return append(dst, 0x80|index)
	}
	return appendInt(appendName(dst, ":status"), int64(status))
}

// appendField writes a literal that is not put into the table.
func appendField(dst []byte, name, value string) []byte {
	return appendString(appendName(dst, name), value)
}

// appendInt writes a number as a field's value.
func appendInt(dst []byte, n int64) []byte {
	var digits [20]byte
	text := strconv.AppendInt(digits[:0], n, 10)
	return append(append(dst, byte(len(text))), text...)
}

func appendName(dst []byte, name string) []byte {
	if index, ok := staticNames[name]; ok {
		return appendInteger(dst, 0, 4, index)
	}
	return appendString(append(dst, 0), name)
}

func appendString(dst []byte, s string) []byte {
	return append(appendInteger(dst, 0, 7, uint64(len(s))), s...)
}

// appendInteger writes an integer with a prefix of so many bits.
func appendInteger(dst []byte, first byte, bits int, n uint64) []byte {
	limit := uint64(1)<<bits - 1
	if n < limit {
		return append(dst, first|byte(n))
	}
	dst = append(dst, first|byte(limit))
	for n -= limit; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}
