package web

import (
	"net/http"
	"time"

	"yesline/internal/session"
)

// Message is what a demo's outbox shows instead of sending it.
type Message struct {
	At   time.Time
	To   string // a mask
	Text string
}

// outbox is a door of the demo only: New hangs it where House.Outbox is set,
// and so it is not in the committed table.
func (s *Site) outbox(w http.ResponseWriter, r *http.Request) {
	s.page(w, http.StatusOK, outboxView{Messages: s.house.Outbox()}, session.Nobody)
}
