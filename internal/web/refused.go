package web

import (
	"cmp"
	"slices"
	"time"

	"yesline"
	"yesline/internal/session"
)

// Refused are calls that were not placed in one minute for one reason. It holds
// neither a number nor whose calls they were.
type Refused struct {
	At      time.Time         // the minute; the hour when nobody knows for whom
	Program yesline.ProgramID // "" when nobody knows for whom
	Word    string
	Region  string // where the numbers are, as people say it; "" when unknown
	Times   int64
}

// refusedRow is one reason in one hour; who called is not told.
type refusedRow struct {
	Hour   time.Time
	Last   time.Time // its last minute; Hour when only that is known
	Word   string
	Region string
	Times  int64
}

const refusedOnAPage = 30

// refusedRows adds up what staff may see: their program's, or of the house all.
// It stands by the hour, newest first.
func refusedRows(all []Refused, who session.Principal) (rows []refusedRow) {
	at := map[refusedRow]int{}
	for _, r := range all {
		if p := who.Program(); p != "" && r.Program != p {
			continue
		}
		key := refusedRow{Hour: r.At.UTC().Truncate(time.Hour), Word: r.Word, Region: r.Region}
		i, ok := at[key]
		if !ok {
			i = len(rows)
			at[key] = i
			rows = append(rows, key)
		}
		rows[i].Times += r.Times
		if last := r.At.UTC(); last.After(rows[i].Last) {
			rows[i].Last = last
		}
	}
	slices.SortStableFunc(rows, func(x, y refusedRow) int {
		return cmp.Or(y.Hour.Compare(x.Hour), cmp.Compare(y.Times, x.Times))
	})
	return rows[:min(len(rows), refusedOnAPage)]
}
