package hbase

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tsuna/gohbase"
	"github.com/tsuna/gohbase/hrpc"
	"github.com/tsuna/gohbase/pb"
	"google.golang.org/protobuf/proto"
)

// admin speaks with HBase's master.
type admin struct {
	options Options
	client  gohbase.AdminClient
	dialer  *dialer
}

func newAdmin(options Options) *admin {
	d := newDialer()
	return &admin{options: options, dialer: d, client: gohbase.NewAdminClient(options.ZooKeeper,
		gohbase.ZookeeperRoot(options.ZooKeeperRoot),
		gohbase.ZookeeperTimeout(zooKeeperTimeout),
		gohbase.EffectiveUser(options.User),
		gohbase.RegionDialer(d.dial),
		gohbase.Logger(forDebugging(options.Logger)),
	)}
}

func (a *admin) close() {
	// The library's client for the master has nothing to close but this.
	a.dialer.close()
}

// tableDescription is the attributes of a table and of its families, by name.
type tableDescription struct {
	attributes map[string]string
	families   map[string]map[string]string
}

func (d *tableDescription) names() []string { return slices.Sorted(maps.Keys(d.families)) }

func attributesOf(pairs []*pb.BytesBytesPair) map[string]string {
	attributes := map[string]string{}
	for _, pair := range pairs {
		attributes[string(pair.GetFirst())] = string(pair.GetSecond())
	}
	return attributes
}

func equalFold(a, b string) bool { return strings.EqualFold(a, b) }

// adminPatience is how many request timeouts the master may take: to be found, and
// to make a table with its regions.
const adminPatience = 10

// within bounds a call of the client library, which looks for a master for as
// long as it may.
func (a *admin) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, adminPatience*a.options.RequestTimeout)
}

// describe returns those of the tables that are there.
func (a *admin) describe(ctx context.Context, names [][]byte) (map[string]*tableDescription, error) {
	ctx, cancel := a.within(ctx)
	defer cancel()
	sender, ok := a.client.(gohbase.RPCClient)
	if !ok {
		return nil, fmt.Errorf("the client library's %T cannot describe tables", a.client)
	}
	r := &describeTables{ctx: ctx, answer: make(chan hrpc.RPCResult, 1)}
	for _, name := range names {
		r.names = append(r.names, &pb.TableName{Namespace: []byte("default"), Qualifier: name})
	}
	message, err := sender.SendRPC(r)
	if err != nil {
		return nil, adminError(ctx, "describe tables", err)
	}
	response, ok := message.(*pb.GetTableDescriptorsResponse)
	if !ok {
		return nil, fmt.Errorf("hbase describes tables with a %T", message)
	}
	found := map[string]*tableDescription{}
	for _, table := range response.GetTableSchema() {
		d := &tableDescription{attributesOf(table.GetAttributes()), map[string]map[string]string{}}
		for _, f := range table.GetColumnFamilies() {
			d.families[string(f.GetName())] = attributesOf(f.GetAttributes())
		}
		found[string(table.GetTableName().GetQualifier())] = d
	}
	return found, nil
}

// create creates a table. One that is there already, made by another at the
// same time, is no error.
func (a *admin) create(ctx context.Context, table []byte, attributes, ofFamily map[string]string, splits [][]byte) error {
	ctx, cancel := a.within(ctx)
	defer cancel()
	r := hrpc.NewCreateTable(ctx, table, map[string]map[string]string{family: ofFamily},
		hrpc.TableAttributes(attributes), hrpc.SplitKeys(splits))
	err := a.client.CreateTable(r)
	if err != nil && !strings.Contains(err.Error(), "TableExistsException") {
		return adminError(ctx, "create", err)
	}
	return nil
}

func adminError(ctx context.Context, verb string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w: %w", verb, ErrUnavailable, ctx.Err())
	}
	return fmt.Errorf("%s: %s", verb, firstLines(err))
}

// describeTables asks the master for the descriptions of tables, which the
// client library has no call for.
type describeTables struct {
	ctx    context.Context // the client library's interface has it so
	names  []*pb.TableName
	region hrpc.RegionInfo
	answer chan hrpc.RPCResult
}

var _ hrpc.Call = (*describeTables)(nil)

func (r *describeTables) Table() []byte                    { return nil }
func (r *describeTables) Name() string                     { return "GetTableDescriptors" }
func (r *describeTables) Key() []byte                      { return nil }
func (r *describeTables) Region() hrpc.RegionInfo          { return r.region }
func (r *describeTables) SetRegion(region hrpc.RegionInfo) { r.region = region }
func (r *describeTables) ResultChan() chan hrpc.RPCResult  { return r.answer }
func (r *describeTables) Description() string              { return r.Name() }
func (r *describeTables) Context() context.Context         { return r.ctx }

// NewResponse and ToProto are the answer and the request.
func (r *describeTables) NewResponse() proto.Message { return &pb.GetTableDescriptorsResponse{} }

func (r *describeTables) ToProto() proto.Message {
	return &pb.GetTableDescriptorsRequest{TableNames: r.names}
}
