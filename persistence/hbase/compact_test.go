//go:build stores

package hbase_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/tsuna/gohbase"
	"github.com/tsuna/gohbase/hrpc"
	"github.com/tsuna/gohbase/pb"
	"github.com/tsuna/gohbase/region"
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/persistence/hbase"
)

// regionCall is a call of a region server's AdminService.
type regionCall struct {
	ctx      context.Context
	name     string
	request  proto.Message
	response proto.Message
	answer   chan hrpc.RPCResult
}

func (c *regionCall) Table() []byte                   { return nil }
func (c *regionCall) Name() string                    { return c.name }
func (c *regionCall) Key() []byte                     { return nil }
func (c *regionCall) Region() hrpc.RegionInfo         { return nil }
func (c *regionCall) SetRegion(hrpc.RegionInfo)       {}
func (c *regionCall) ToProto() proto.Message          { return c.request }
func (c *regionCall) NewResponse() proto.Message      { return c.response }
func (c *regionCall) ResultChan() chan hrpc.RPCResult { return c.answer }
func (c *regionCall) Description() string             { return c.name }
func (c *regionCall) Context() context.Context        { return c.ctx }

// compact writes what a store's tables have in memory to files, and compacts
// those to one for each region, which drops what is masked and what masks it.
func compact(ctx context.Context, t *testing.T, o hbase.Options, s *hbase.Store) {
	t.Helper()
	client := gohbase.NewClient(o.ZooKeeper, gohbase.Logger(o.Logger))
	defer client.Close()
	for _, table := range s.Tables() {
		scan, err := hrpc.NewScanRange(ctx, []byte("hbase:meta"), table, append(append([]byte{}, table...), '.'),
			hrpc.Families(map[string][]string{"info": nil}))
		if err != nil {
			t.Fatal(err)
		}
		scanner, regions := client.Scan(scan), 0
		for {
			row, err := scanner.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			info, address, err := region.ParseRegionInfo(row)
			if err != nil {
				t.Fatal(err)
			}
			compactRegion(ctx, t, address, info)
			regions++
		}
		if regions == 0 {
			t.Fatalf("table %s has no regions", table)
		}
	}
}

func compactRegion(ctx context.Context, t *testing.T, address string, info hrpc.RegionInfo) {
	t.Helper()
	server := region.NewClient(address, region.ClientType("AdminService"), &region.RegionClientOptions{
		Dialer: func(ctx context.Context, network, address string) (net.Conn, error) {
			var plain net.Dialer
			return plain.DialContext(ctx, network, address)
		},
	})
	defer server.Close()
	if err := server.Dial(ctx); err != nil {
		t.Fatal(err)
	}
	specifier := &pb.RegionSpecifier{Type: hrpc.RegionSpecifierRegionName, Value: info.Name()}
	call := func(name string, request, response proto.Message) proto.Message {
		c := &regionCall{ctx, name, request, response, make(chan hrpc.RPCResult, 1)}
		server.QueueRPC(c)
		select {
		case result := <-c.answer:
			if result.Error != nil {
				t.Fatal(result.Error)
			}
			return result.Msg
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
		return nil
	}
	// The client library lacks the messages for a flush. On the wire, this one
	// is a request for it, and its answer says nothing that is needed here.
	call("FlushRegion", &pb.CompactRegionRequest{Region: specifier}, &pb.CompactRegionResponse{})
	call("CompactRegion", &pb.CompactRegionRequest{Region: specifier, Major: new(true)}, &pb.CompactRegionResponse{})
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		message := call("GetRegionInfo", &pb.GetRegionInfoRequest{Region: specifier, CompactionState: new(true)}, &pb.GetRegionInfoResponse{})
		if message.(*pb.GetRegionInfoResponse).GetCompactionState() == pb.GetRegionInfoResponse_NONE {
			return
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
	}
}
