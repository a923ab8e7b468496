package tolls

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"yesline"
	"yesline/internal/db"
)

// clerk keeps the books: one goroutine writes all that came together in one
// transaction, so that a thousand calls cost a few. Who places a call waits
// for it; who answers or ends one does not.
type clerk struct {
	content *db.DB
	rules   Rules
	report  *slog.Logger

	mu      sync.Mutex      // guards what follows
	orders  []*entry        // that are waited for
	dirty   map[*entry]bool // whose row is not as they are
	notes   map[refusedKey]int64
	ample   map[string]int64 // purse -> the last day on which it was seen to have enough for any call
	syncs   []chan error
	closed  bool
	wake    chan struct{} // of one place
	done    chan struct{}
	started bool

	// of the goroutine alone
	known  map[string]balance // as last seen, with what was decided since
	warned map[string]int64   // purse -> the last day
	sick   time.Time          // the database is not asked before
	swept  time.Time
}

// entry is a call in the books.
type entry struct {
	id     string
	purses [3]string // program, account, trunk
	price  int64     // of a minute

	// Set by the goroutine before decided is closed.
	decided chan struct{}
	day     int64
	minutes int64 // held; 0: refused
	until   int64 // milliseconds: it is over by then
	word    string

	// Under the clerk's mutex.
	answer, over time.Time
	rowed        bool // it has a row
	told         bool // the row knows of the answer
	finished     bool // the row is gone, and what is left was given back

	credited bool // of the goroutine: given back in memory already
}

func (e *entry) held() int64 { return e.minutes * e.price }

const (
	ordersMost  = 4096 // that wait at once
	batchMost   = 256  // orders, and changes, of one transaction
	notesMost   = 1024
	patience    = 2 * time.Second // for a transaction
	sickFor     = time.Second     // after one that failed
	sweepEvery  = 10 * time.Minute
	spentDays   = 40
	refusedDays = 30
	refusedMost = 10_000
	ringMost    = 10 * time.Minute // from placing a call to its answer, and from its end to our knowing
	margin      = 5 * time.Second  // by which a call ends before the next minute
	leastUseful = 3                // minutes
	nearly      = 80               // per cent of a day's money
)

// purses are what pays for somebody's calls.
func (w Who) purses() [3]string {
	return [3]string{string(w.Program), w.account(), trunkPurse(w.Trunk)}
}

func trunkPurse(name string) string { return "trunk:" + name }

func dayOf(t time.Time) int64 { return t.Unix() / (24 * 60 * 60) }

func newClerk(content *db.DB, rules Rules, report *slog.Logger) clerk {
	return clerk{content: content, rules: rules, report: report, dirty: map[*entry]bool{}, notes: map[refusedKey]int64{}, ample: map[string]int64{},
		wake: make(chan struct{}, 1), done: make(chan struct{}), known: map[string]balance{}, warned: map[string]int64{}, swept: time.Now()}
}

func (k *clerk) begin() {
	k.started = true
	go k.run()
}

func (k *clerk) close() {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	if k.started {
		k.call()
		<-k.done
	}
}

func (k *clerk) call() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// hold asks for the money of a call and waits for it. The word says why there
// is none.
func (k *clerk) hold(ctx context.Context, c *Call) (word string, err error) {
	e := &entry{id: string(yesline.NewCallID()), price: c.price, decided: make(chan struct{}),
		purses: c.who.purses()}
	k.mu.Lock()
	if k.closed || len(k.orders) >= ordersMost {
		k.mu.Unlock()
		return "", fmt.Errorf("placing a call: %w", yesline.Unavailable)
	}
	k.orders = append(k.orders, e)
	k.mu.Unlock()
	k.call()
	select {
	case <-e.decided:
	case <-ctx.Done():
		k.ended(e, time.Now()) // if it was permitted meanwhile, it is over
		return "", ctx.Err()
	}
	if e.word != "" {
		return e.word, nil
	}
	c.entry = e
	c.longest = min(c.longest, time.Duration(e.minutes)*time.Minute-margin)
	return "", nil
}

func (k *clerk) answered(e *entry, at time.Time) {
	k.change(e, func() {
		if e.answer.IsZero() && e.over.IsZero() {
			e.answer = at
		}
	})
}

func (k *clerk) ended(e *entry, at time.Time) {
	k.change(e, func() { e.over = at })
}

func (k *clerk) change(e *entry, do func()) {
	k.mu.Lock()
	do()
	k.dirty[e] = true
	k.mu.Unlock()
	k.call()
}

// cost is what a call costs that is over: whole minutes, as carriers bill.
func (e *entry) cost() int64 {
	if e.answer.IsZero() {
		return 0
	}
	return minutesOf(e.over.Sub(e.answer)) * e.price
}

func minutesOf(d time.Duration) int64 { return max(1, int64((d+time.Minute-1)/time.Minute)) }

// sync waits until all that came before is written.
func (k *clerk) sync(ctx context.Context) error {
	done := make(chan error, 1)
	k.mu.Lock()
	if k.closed || len(k.syncs) >= ordersMost {
		k.mu.Unlock()
		return fmt.Errorf("writing the books of calls: %w", yesline.Unavailable)
	}
	k.syncs = append(k.syncs, done)
	k.mu.Unlock()
	k.call()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (k *clerk) run() {
	defer close(k.done)
	again := time.NewTimer(sweepEvery)
	defer again.Stop()
	for {
		last := false
		select {
		case <-k.wake:
		case <-again.C:
		}
		for {
			b := k.take()
			last = b.last
			if !b.empty() {
				k.work(b)
			}
			if !b.more {
				break
			}
		}
		if last {
			return
		}
		again.Reset(k.pause())
	}
}

// pause is how long the goroutine sleeps when nobody wakes it.
func (k *clerk) pause() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.dirty)+len(k.notes) > 0 {
		return sickFor
	}
	return sweepEvery
}

// batch is what one transaction writes.
type batch struct {
	orders  []*entry
	changes []change
	notes   map[refusedKey]int64
	syncs   []chan error
	well    bool // the database is asked
	more    bool // something waits that did not fit
	last    bool
}

// change is a call as it was when the batch was taken, for its row to become
// so.
type change struct {
	*entry
	insert bool      // there is no row yet
	since  time.Time // answered; zero: not yet
	gone   bool
	spent  int64 // of one that is gone
}

func (b batch) empty() bool {
	return len(b.orders)+len(b.changes)+len(b.notes)+len(b.syncs) == 0
}

func (k *clerk) take() (b batch) {
	k.mu.Lock()
	defer k.mu.Unlock()
	b.well = !time.Now().Before(k.sick)
	unknown := false // money is held that this batch does not write down
	for e := range k.dirty {
		if len(b.changes) == batchMost && (unknown || !b.well) {
			break // there is nothing more to learn, and they may be many
		}
		switch {
		case !e.isDecided(): // it is looked at again when it is
		case e.minutes == 0 || e.finished:
			delete(k.dirty, e)
		case len(b.changes) == batchMost:
			unknown = unknown || !e.rowed
		default:
			c := change{entry: e, insert: !e.rowed, since: e.answer, gone: !e.over.IsZero()}
			if c.gone {
				c.spent = e.cost()
			}
			b.changes = append(b.changes, c)
		}
	}
	if !unknown || !b.well { // else they wait until the database knows of all that was held without it
		n := min(len(k.orders), batchMost)
		b.orders = k.orders[:n:n]
		k.orders = k.orders[n:]
	}
	b.notes, k.notes = k.notes, map[refusedKey]int64{}
	b.last = k.closed
	b.more = len(k.orders) > 0 || len(b.changes) == batchMost && b.well
	if !b.more {
		b.syncs, k.syncs = k.syncs, nil
	}
	return b
}

func (e *entry) isDecided() bool {
	select {
	case <-e.decided:
		return true
	default:
		return false
	}
}

// work decides the orders of a batch and writes it.
func (k *clerk) work(b batch) {
	now := time.Now()
	err := fmt.Errorf("the books of calls: %w", yesline.Unavailable)
	if b.well || b.last {
		if err = k.write(b, now); err != nil {
			k.sick = time.Now().Add(sickFor)
			k.report.Error("the books of calls cannot be written, limits hold from memory", "error", err)
		}
	}
	if err != nil {
		for _, c := range b.changes {
			k.credit(c, nil)
		}
		k.fromMemory(b.orders, now)
	}
	k.settle(b, err == nil)
	for _, s := range b.syncs {
		s <- err
	}
	if err == nil && now.Sub(k.swept) >= sweepEvery {
		k.swept = now
		k.sweep(now)
	}
}

// credit gives back in memory what a call did not need, where the database
// was not just read.
func (k *clerk) credit(c change, read map[string]balance) {
	if !c.gone || c.credited {
		return
	}
	c.credited = true
	for _, p := range c.purses {
		known, ok := k.known[p]
		if _, fresh := read[p]; ok && !fresh && known.day == c.day {
			known.today += c.spent - c.held()
			k.known[p] = known
		}
	}
}

// fromMemory decides without the database. It may still be able to read: a
// disk that is full can be.
func (k *clerk) fromMemory(orders []*entry, now time.Time) {
	l := ledger{day: dayOf(now), by: k.known, rules: k.rules}
	if missing := l.unknown(orders); len(missing) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), patience/10)
		defer cancel()
		l.read(ctx, k.content.Query, missing) // nothing read is nothing spent
	}
	for _, e := range orders {
		l.decide(e, now)
	}
}

// settle marks what was written, and lets go who waits.
func (k *clerk) settle(b batch, written bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range b.orders {
		e.rowed = written && e.minutes > 0
		if e.minutes > 0 && !written {
			k.dirty[e] = true
		}
		k.notice(e)
		close(e.decided)
	}
	if !written {
		for key, times := range b.notes {
			k.addNote(key, times)
		}
		return
	}
	for _, c := range b.changes {
		c.rowed, c.told, c.finished = true, !c.since.IsZero(), c.gone
		if c.finished || c.over.IsZero() && c.told == !c.answer.IsZero() {
			delete(k.dirty, c.entry) // nothing came meanwhile
		}
	}
}

// notice keeps which purses of a call have enough for the dearest one, now that
// it is decided. Called with the mutex held, by the goroutine.
func (k *clerk) notice(e *entry) {
	if len(k.ample) > ordersMost {
		clear(k.ample)
	}
	for _, p := range e.purses {
		limit, _ := k.rules.limit(p)
		if b := k.known[p]; b.day == e.day && limit-b.today-b.later >= k.rules.dearest() {
			k.ample[p] = e.day
			continue
		}
		delete(k.ample, p)
	}
}

// dearest is what the dearest call holds.
func (r Rules) dearest() (micros int64) {
	for _, price := range r.PerMinute {
		micros = max(micros, price)
	}
	return micros * minutesOf(r.MaxLength+margin)
}

// short reports whether one of somebody's purses may be too short: it was when
// it was last asked, or was not asked on this day.
func (k *clerk) short(who Who, day int64) bool {
	if who.Inside {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range who.purses() {
		if k.ample[p] != day {
			return true
		}
	}
	return false
}

// write is one transaction. Its body may run again: it decides anew each time
// and changes nothing but what the goroutine owns.
func (k *clerk) write(b batch, now time.Time) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var l ledger
	err := k.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		l = ledger{day: dayOf(now), by: map[string]balance{}, rules: k.rules}
		for _, c := range b.changes {
			if err := l.change(ctx, tx, c); err != nil {
				return err
			}
		}
		if err := l.post(ctx, tx); err != nil {
			return err
		}
		if err := l.read(ctx, tx.Query, l.unknown(b.orders)); err != nil {
			return err
		}
		for _, e := range b.orders {
			l.decide(e, now)
			if err := l.insert(ctx, tx, change{entry: e}); err != nil {
				return err
			}
		}
		if err := l.post(ctx, tx); err != nil {
			return err
		}
		return writeNotes(ctx, tx, b.notes)
	})
	if err != nil {
		return err
	}
	for _, c := range b.changes {
		k.credit(c, l.by)
	}
	k.remember(l)
	return nil
}

// remember keeps what was read for when the database does not answer, and
// tells the operator of purses that are nearly empty.
func (k *clerk) remember(l ledger) {
	if len(k.known) > ordersMost {
		clear(k.known)
	}
	if len(k.warned) > ordersMost {
		clear(k.warned)
	}
	for purse, b := range l.by {
		k.known[purse] = b
		limit, word := k.rules.limit(purse)
		if word == budget || b.today*100 < limit*nearly || k.warned[purse] == l.day {
			continue
		}
		k.warned[purse] = l.day
		k.report.Warn("most of a day's money for calls is spent or held", "of", word, "purse", purse)
	}
}
