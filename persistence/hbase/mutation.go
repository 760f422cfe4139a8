package hbase

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/tsuna/gohbase/hrpc"
	"github.com/tsuna/gohbase/pb"
	"google.golang.org/protobuf/proto"
)

// cell is one cell of a mutation; for a removal of a row, all that counts is
// its version.
type cell struct {
	qualifier string
	version   uint64
	value     []byte
}

// mutation is a put of cells into one row, or the removal of a row up to a
// version. The client library's own has one version for all its cells; a
// mailbox's cells have one each, and must be put in one step.
type mutation struct {
	*hrpc.Mutate // has the table, the row and the answer

	removal    bool
	durability pb.MutationProto_Durability
	cells      []cell
}

var _ hrpc.Call = (*mutation)(nil)

// newPut returns a put. The slices belong to it until it was answered.
func newPut(ctx context.Context, table, row []byte, durability Durability, cells ...cell) (*mutation, error) {
	base, err := newBase(ctx, table, row)
	if err != nil {
		return nil, err
	}
	return &mutation{Mutate: base, durability: durability.toProto(), cells: cells}, nil
}

// newRemoval returns the removal of all cells of a row up to and including a
// version.
func newRemoval(ctx context.Context, table, row []byte, durability Durability, version uint64) (*mutation, error) {
	base, err := newBase(ctx, table, row)
	if err != nil {
		return nil, err
	}
	return &mutation{Mutate: base, removal: true, durability: durability.toProto(), cells: []cell{{version: version}}}, nil
}

func newBase(ctx context.Context, table, row []byte) (*hrpc.Mutate, error) {
	if len(row) > maxRow {
		return nil, fmt.Errorf("names of %d bytes make a row key longer than HBase's %d", len(row), maxRow)
	}
	return hrpc.NewPut(ctx, table, row, nil)
}

func (d Durability) toProto() pb.MutationProto_Durability {
	if d == DurabilityFsync {
		return pb.MutationProto_FSYNC_WAL
	}
	return pb.MutationProto_SYNC_WAL
}

// size is about what the mutation takes on the wire.
func (m *mutation) size() int {
	size := 0
	for i := range m.cells {
		size += m.cellSize(&m.cells[i])
	}
	return size
}

func (m *mutation) cellSize(c *cell) int {
	const lengths, version = 4 + 4 + 4 + 2 + 1, 8 + 1
	return lengths + len(m.Key()) + len(family) + len(c.qualifier) + version + len(c.value)
}

// The types of cells, as KeyValue.Type has them.
const (
	typePut          = 4
	typeDeleteFamily = 14
)

// SerializeCellBlocks implements the client library's interface for calls that
// carry cells. A cell is, as KeyValueCodec has it: its length, the lengths of
// key and value, the key (row with its length in two bytes, family with its
// length in one, qualifier, version, type) and the value.
func (m *mutation) SerializeCellBlocks(blocks [][]byte) (proto.Message, [][]byte, uint32) {
	size := m.size()
	b := make([]byte, 0, size)
	row, kind := m.Key(), byte(typePut)
	if m.removal {
		kind = typeDeleteFamily
	}
	for i := range m.cells {
		c := &m.cells[i]
		whole := m.cellSize(c)
		b = binary.BigEndian.AppendUint32(b, uint32(whole-4))
		b = binary.BigEndian.AppendUint32(b, uint32(whole-12-len(c.value)))
		b = binary.BigEndian.AppendUint32(b, uint32(len(c.value)))
		b = binary.BigEndian.AppendUint16(b, uint16(len(row)))
		b = append(b, row...)
		b = append(b, byte(len(family)))
		b = append(b, family...)
		b = append(b, c.qualifier...)
		b = binary.BigEndian.AppendUint64(b, c.version)
		b = append(b, kind)
		b = append(b, c.value...)
	}
	request := m.request()
	request.Mutation.AssociatedCellCount = new(int32(len(m.cells)))
	return request, append(blocks, b), uint32(len(b))
}

// ToProto returns the request without its cells: it is never sent so.
func (m *mutation) ToProto() proto.Message { return m.request() }

func (m *mutation) request() *pb.MutateRequest {
	kind := pb.MutationProto_PUT
	if m.removal {
		kind = pb.MutationProto_DELETE
	}
	request := &pb.MutateRequest{
		Mutation: &pb.MutationProto{Row: m.Key(), MutateType: &kind, Durability: &m.durability},
	}
	if region := m.Region(); region != nil {
		request.Region = &pb.RegionSpecifier{Type: hrpc.RegionSpecifierRegionName, Value: region.Name()}
	}
	return request
}

// Description names the call in the client library's metrics.
func (m *mutation) Description() string {
	if m.removal {
		return "DELETE"
	}
	return "PUT"
}
