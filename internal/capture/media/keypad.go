package media

// Keypad reads the keys out of one party's telephone-event packets (RFC 4733).
// A key counts once, on the first packet of its timestamp that has a duration
// or the end bit, so it survives the loss of the marker, of the start or of
// the end. The zero value is ready.
type Keypad struct {
	begun   bool
	stamp   uint32 // timestamp of the newest event
	event   byte
	counted bool
}

const pad = "0123456789*#ABCD"

// segment is the longest duration; a longer press goes on as a new event whose
// timestamp is that much later (RFC 4733, 2.5.1.3).
const segment = 0xffff

// Read takes the payload of a packet and its timestamp. It gives a key when
// this packet is the one that counts.
func (k *Keypad) Read(stamp uint32, payload []byte) (key byte, pressed bool) {
	if len(payload) < 4 {
		return 0, false
	}
	event, end := payload[0], payload[1]&0x80 != 0
	duration := uint16(payload[2])<<8 | uint16(payload[3])
	if int(event) >= len(pad) {
		return 0, false // a flash, a fax tone: no key
	}
	switch step := int32(stamp - k.stamp); {
	case !k.begun, step > 0:
		longer := k.begun && step == segment && event == k.event && k.counted
		k.begun, k.stamp, k.event, k.counted = true, stamp, event, longer
	case step < 0, event != k.event:
		return 0, false // an old one, out of order
	}
	if k.counted || duration == 0 && !end {
		return 0, false
	}
	k.counted = true
	return pad[event], true
}
