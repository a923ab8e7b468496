package webrtc

import (
	"encoding/binary"
	"sync"
	"testing"

	"github.com/pion/srtp/v3"
)

// No sequence number of the voice's line is encrypted twice, whatever order the
// other party's packets come in around something that the house says: under
// AES-GCM that gives the key of its tags away (RFC 7714, 8.1).
func TestNoNumberOfTheVoiceIsSealedTwice(t *testing.T) {
	t.Parallel()
	cipher, err := srtp.CreateContext(make([]byte, 16), make([]byte, 12), srtp.ProtectionProfileAeadAes128Gcm)
	if err != nil {
		t.Fatal(err)
	}
	h := &Handset{door: &Door{}}
	h.sealer.use(cipher)
	sent := make(chan *[]byte, 64)
	h.out.Store(&path{conn: &stream{door: h.door, queue: sent, spare: &sync.Pool{New: func() any { return new([]byte) }}}})
	says := func(seq uint16) {
		packet := make([]byte, 12+20)
		packet[0] = 0x80
		binary.BigEndian.PutUint16(packet[2:], seq)
		packet[12] = byte(seq) // what is said differs
		if err := h.carryVoice(packet); err != nil {
			t.Fatal(err)
		}
	}
	says(100)
	h.prompts.Add(1) // the house begins to speak
	says(102)        // the network turned two packets round
	h.prompts.Add(-1)
	says(101)
	says(103)
	to := h.out.Swap(nil)
	if h.carryVoice(make([]byte, 32)) == nil || h.carryHouse(make([]byte, 32)) == nil {
		t.Error("what had no path counts as sent")
	}
	h.out.Store(to)
	close(sent)
	seen := map[uint16]string{}
	for frame := range sent {
		number, sealed := binary.BigEndian.Uint16((*frame)[4:]), string((*frame)[2:])
		if before, is := seen[number]; is && before != sealed {
			t.Errorf("number %d was sealed twice, with different words", number)
		}
		seen[number] = sealed
	}
}
