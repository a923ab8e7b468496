package vault

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"yesline"
)

// found is what opening every slot of a voice showed. The count is the last
// second that opens, plus one: what follows is the torn end of a crash, or
// was added by somebody else, and no part of the track.
type found struct {
	leaves  []hash  // of seconds 0 to count-1
	opened  []int64 // the seconds that opened, rising
	damaged []int64 // seconds below count that are there and do not open, rising
}

const scanAtOnce = 64 // slots: 512 KiB

// scan opens every slot of a blob up to the longest track there may be. With
// no seal nothing opens.
func scan(ctx context.Context, blobs Blobs, name string, seal *seal) (*found, error) {
	f := &found{}
	var tail []hash // leaves after the last second that opened
	var suspects []int64
	bytes := make([]byte, scanAtOnce*slotSize)
	for first := int64(0); first < MaxSeconds && seal != nil; first += scanAtOnce {
		read, err := blobs.ReadAt(ctx, name, bytes, (first+1)*slotSize)
		end := errors.Is(err, io.EOF) || errors.Is(err, yesline.NotFound)
		if err != nil && !end {
			return nil, fmt.Errorf("reading an object: %w", err)
		}
		clear(bytes[read:])
		for i := range int64(scanAtOnce) {
			n, slot := first+i, bytes[i*slotSize:(i+1)*slotSize]
			if isZero(slot) {
				tail = append(tail, absent)
				continue
			}
			tail = append(tail, leafHash(slot))
			if _, err := seal.open(slot, n); err != nil {
				suspects = append(suspects, n)
				continue
			}
			f.leaves, tail = append(f.leaves, tail...), tail[:0]
			f.damaged, suspects = append(f.damaged, suspects...), suspects[:0]
			f.opened = append(f.opened, n)
		}
		if end {
			break
		}
	}
	return f, nil
}

// hashSeconds makes the leaves of the first count seconds of a voice anew.
func hashSeconds(ctx context.Context, blobs Blobs, name string, count int64) ([]hash, error) {
	leaves := make([]hash, 0, count)
	bytes := make([]byte, scanAtOnce*slotSize)
	for int64(len(leaves)) < count {
		first := int64(len(leaves))
		some := bytes[:min(scanAtOnce, count-first)*slotSize]
		if err := readFull(ctx, blobs, name, some, (first+1)*slotSize); err != nil {
			return nil, err
		}
		for slot := range slices.Chunk(some, slotSize) {
			if isZero(slot) {
				leaves = append(leaves, absent)
			} else {
				leaves = append(leaves, leafHash(slot))
			}
		}
	}
	return leaves, nil
}

// detail is what the log says of a voice that is closed.
func (f *found) detail(r *row, root hash) map[string]string {
	count := int64(len(f.leaves))
	d := map[string]string{
		"rendition": Voice,
		"state":     string(r.State),
		"seconds":   strconv.FormatInt(count, 10),
		"absent":    strconv.FormatInt(count-int64(len(f.opened)+len(f.damaged)), 10),
		"root":      hex.EncodeToString(root[:]),
	}
	if len(f.damaged) > 0 {
		d["damaged"] = spans(f.damaged)
	}
	var problems []string
	if r.problem != "" {
		problems = append(problems, r.problem)
	}
	below := int64(0)
	for _, n := range f.opened {
		if n < r.floor {
			below++
		}
	}
	if count < r.floor {
		problems = append(problems, "cut below floor")
	} else if below < r.sealed {
		problems = append(problems, "seconds lost below floor")
	}
	if len(problems) > 0 {
		d["problem"] = strings.Join(problems, "; ")
	}
	return d
}

const spansMost = 480 // bytes; a value of the log holds 512

// spans writes rising seconds as "3-5,9", as many as fit.
func spans(seconds []int64) string {
	var b strings.Builder
	for i := 0; i < len(seconds); {
		last := i
		for last+1 < len(seconds) && seconds[last+1] == seconds[last]+1 {
			last++
		}
		s := strconv.FormatInt(seconds[i], 10)
		if last > i {
			s += "-" + strconv.FormatInt(seconds[last], 10)
		}
		if b.Len()+len(s) >= spansMost {
			break // the others stay unreadable, which the log's root proves as well
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(s)
		i = last + 1
	}
	return b.String()
}

func parseSpans(s string) (map[int64]bool, error) {
	seconds := map[int64]bool{}
	if s == "" {
		return seconds, nil
	}
	for span := range strings.SplitSeq(s, ",") {
		low, high, ranged := strings.Cut(span, "-")
		if !ranged {
			high = low
		}
		from, err := strconv.ParseInt(low, 10, 64)
		to, errTo := strconv.ParseInt(high, 10, 64)
		if err != nil || errTo != nil || from < 0 || to < from || to >= MaxSeconds {
			return nil, fmt.Errorf("the damaged seconds of a track: %w", yesline.Tampered)
		}
		for n := from; n <= to; n++ {
			seconds[n] = true
		}
	}
	return seconds, nil
}
