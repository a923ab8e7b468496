package audit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"yesline"
)

// What outsiders get of the log is its signed checkpoint and the hashes of its
// tree, as C2SP tlog-tiles lays them out: they can check that the log only
// grows, and that a receipt is in it. A hash tells nothing of its entry, whose
// words are committed to with 256 random bits.

// Tile gives the hashes of a tile, 32 bytes each: the full tile or, of the last
// one of a level, the first width of them (C2SP tlog-tiles). yesline.NotFound
// beyond what the newest checkpoint has signed.
func (l *Log) Tile(ctx context.Context, level int, n int64, width int) ([]byte, error) {
	absent := fmt.Errorf("a tile of the log: %w", yesline.NotFound)
	if level < 0 || level > 7 || n < 0 || width < 1 || width > tileWidth || n >= 1<<50 {
		return nil, absent
	}
	cp, err := l.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	if n*tileWidth+int64(width) > cp.Size>>(tileHeight*level) {
		return nil, absent
	}
	t := &tiles{read: l.content.QueryRow, held: map[tlog.Tile][]byte{}}
	data, err := t.load(ctx, level, n)
	if err != nil {
		return nil, err
	}
	if len(data) < width*tlog.HashSize {
		return nil, fmt.Errorf("tile %d of level %d is short: %w", n, level, yesline.Tampered)
	}
	return data[:width*tlog.HashSize], nil
}

// TilePath is where a tile is published below "tile/": "0/x001/x234/067" for
// tile 1234067 of level 0, with ".p/5" behind it for its first 5 hashes.
func TilePath(level int, n int64, width int) string {
	parts := []string{fmt.Sprintf("%03d", n%1000)}
	for n /= 1000; n > 0; n /= 1000 {
		parts = append([]string{fmt.Sprintf("x%03d", n%1000)}, parts...)
	}
	path := strconv.Itoa(level) + "/" + strings.Join(parts, "/")
	if width < tileWidth {
		path += ".p/" + strconv.Itoa(width)
	}
	return path
}

var errTilePath = errors.New("no path of a tile")

// ParseTilePath reads what TilePath writes, and nothing else.
func ParseTilePath(path string) (level int, n int64, width int, err error) {
	bad := fmt.Errorf("%w: %w", errTilePath, yesline.NotFound)
	whole, partial, cut := strings.Cut(path, ".p/")
	width = tileWidth
	if cut {
		if width, err = strconv.Atoi(partial); err != nil || width < 1 || width >= tileWidth {
			return 0, 0, 0, bad
		}
	}
	first, rest, _ := strings.Cut(whole, "/")
	if level, err = strconv.Atoi(first); err != nil || level < 0 || level > 7 {
		return 0, 0, 0, bad
	}
	for _, part := range strings.Split(rest, "/") { // a number too large for n is not spelled as it was read
		three, err := strconv.ParseUint(strings.TrimPrefix(part, "x"), 10, 16)
		if err != nil {
			return 0, 0, 0, bad
		}
		n = n*1000 + int64(three)
	}
	if TilePath(level, n, width) != path {
		return 0, 0, 0, bad
	}
	return level, n, width, nil
}
