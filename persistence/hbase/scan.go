package hbase

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/tsuna/gohbase"
	"github.com/tsuna/gohbase/hrpc"
)

// scan is a range of rows to be read in their order: the first cell of each.
type scan struct {
	table       []byte
	start, stop []byte // stop is not included
	qualifiers  []string
	// rows and bytes are about how much to read in one request.
	rows, bytes int
}

const (
	// scanRows and scanBytes bound what one request of a scan reads.
	scanRows  = 2000
	scanBytes = 4 << 20
	// cellOverhead is what HBase counts for a cell in memory, about, beside
	// key and value.
	cellOverhead = 200
)

// scan calls f for the first cell of each row, until it wants no more. Each
// request opens a scanner, reads and closes it, so that none is left behind and
// none can expire between two requests: the next one goes on after the last
// row.
func (c *connection) scan(ctx context.Context, s scan, f func(c hrpc.CellV2) (more bool, err error)) error {
	for bytes.Compare(s.start, s.stop) < 0 {
		response, err := c.scanOnce(ctx, s, true)
		if err == nil && response != nil && len(response.Results) == 0 && response.MoreResultsInRegion {
			// The server reads so many blocks for one answer, and rows that are
			// masked by removals fill them: only its scanner knows where to go
			// on.
			response, err = c.scanOnce(ctx, s, false)
		}
		if err != nil || response == nil {
			return err
		}
		for _, result := range response.Results {
			if more, err := f(result.Cells[0]); err != nil || !more {
				return err
			}
		}
		if n := len(response.Results); n > 0 && response.MoreResultsInRegion {
			s.start = after(response.Results[n-1].Cells[0].Row())
		} else if s.start = response.Region.StopKey(); len(s.start) == 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// scanOnce reads the first rows of a range from the region that they lie in. It
// returns nil when there is nothing more in any region. With one answer only,
// there may be more in the region though the answer has no rows.
func (c *connection) scanOnce(ctx context.Context, s scan, oneAnswer bool) (*hrpc.ScanResponseV2, error) {
	return request(ctx, c, func(ctx context.Context) (work[*hrpc.ScanResponseV2], error) {
		options := []func(hrpc.Call) error{
			hrpc.Families(map[string][]string{family: s.qualifiers}),
			hrpc.NumberOfRows(uint32(min(max(s.rows, 1), scanRows))),
			hrpc.MaxResultSize(uint64(min(max(s.bytes, 64<<10), scanBytes))),
			hrpc.MaxResultsPerColumnFamily(1),
		}
		if oneAnswer {
			options = append(options, hrpc.CloseScanner())
		}
		r, err := hrpc.NewScanRange(ctx, s.table, s.start, s.stop, options...)
		if err != nil {
			return nil, err
		}
		return func(client gohbase.Client) (*hrpc.ScanResponseV2, error) {
			scanner := client.ScanV2(r)
			defer func() { _ = scanner.Close() }()
			for {
				response, err := scanner.Scan(0)
				if errors.Is(err, io.EOF) {
					return nil, nil // the end of the last region
				}
				if err != nil || oneAnswer || len(response.Results) > 0 || !response.MoreResultsInRegion {
					return response, err
				}
			}
		}, nil
	})
}

// scanCells calls take for all cells of a range, row by row, until it wants no
// more. It runs within a request, so that take must share nothing with the
// caller of that. Rows of many cells come in pieces.
func scanCells(client gohbase.Client, r *hrpc.Scan, take func(c hrpc.CellV2) (more bool, err error)) error {
	scanner := client.ScanV2(r)
	defer func() { _ = scanner.Close() }()
	for {
		response, err := scanner.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, result := range response.Results {
			for _, c := range result.Cells {
				if more, err := take(c); err != nil || !more {
					return err
				}
			}
		}
	}
}
