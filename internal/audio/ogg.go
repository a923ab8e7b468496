package audio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Ogg (RFC 3533) with Opus in it (RFC 7845). We write one page for each second
// of a voice, so that a page depends on its second and the one before it alone,
// and a track can be written in parts.
const (
	oggHead     = 27
	oggSegments = 255
	oggPageMost = oggHead + oggSegments + oggSegments*255

	oggContinued = 1
	oggBegins    = 2
	oggEnds      = 4

	// OggHeadMost and OggSecondMost are how long what OggOpus appends can be.
	OggHeadMost   = 256
	OggSecondMost = oggHead + oggSegments + PacketsMost + 2*secondUnits

	// preSkip is what an encoder delays its sound by: a player throws as much
	// away at the beginning (RFC 7845, section 5.1).
	preSkip = 312
)

// OggOpus writes a voice in Opus as an Ogg file, second by second. Serial
// names the stream among others in one file; it means nothing.
type OggOpus struct{ Serial uint32 }

// Head appends the two pages that such a file begins with: one channel, and
// tags that say nothing about anybody.
func (o OggOpus) Head(file []byte) []byte {
	id := append([]byte("OpusHead"), 1, 1) // version, channels
	id = binary.LittleEndian.AppendUint16(id, preSkip)
	id = binary.LittleEndian.AppendUint32(id, OpusRate)
	id = append(id, 0, 0, 0) // no gain; the mapping of one channel
	const maker = "yesline"
	tags := binary.LittleEndian.AppendUint32([]byte("OpusTags"), uint32(len(maker)))
	tags = append(tags, maker...)
	tags = binary.LittleEndian.AppendUint32(tags, 0)
	file = o.page(file, oggBegins, 0, 0, id)
	return o.page(file, 0, 0, 1, tags)
}

// Second appends the page of second n (from 0), given the one before it. Time
// in which nothing was received is filled with packets that have no sound and
// ask for none (RFC 7845, section 4.1), so that what follows stays in its
// place. The last page of a file says so.
func (o OggOpus) Second(file []byte, n int64, before, now Packets, last bool) []byte {
	at, toc := carried(before)
	var row [][]byte
	for unit, packet := range now.All() {
		lasts, err := PacketUnits(packet)
		if err != nil || unit < at {
			continue // no packet of ours
		}
		row = fill(row, toc, unit-at)
		row = append(row, packet)
		at, toc = unit+lasts, packet[0]
	}
	if at < secondUnits {
		row = fill(row, toc, secondUnits-at)
		at = secondUnits
	}
	flags := byte(0)
	if last {
		flags = oggEnds
	}
	granule := (n*secondUnits + int64(at)) * opusUnit
	return o.page(file, flags, granule, uint32(n)+2, row...)
}

// End appends the page that ends the file of a voice of no second.
func (o OggOpus) End(file []byte) []byte { return o.page(file, oggEnds, 0, 2) }

// carried tells how far the last packet of a second reaches into the next, in
// units, and how that packet begins.
func carried(before Packets) (units int, toc byte) {
	toc = 31 << 3 // where there is none: 20 ms, full band
	for unit, packet := range before.All() {
		if lasts, err := PacketUnits(packet); err == nil {
			units, toc = max(0, unit+lasts-secondUnits), packet[0]
		}
	}
	return units, toc
}

// fill appends packets of empty frames, in the mode of the packet before them:
// frames of 20 ms, at most 6 a packet, and one of 10 ms.
func fill(row [][]byte, toc byte, units int) [][]byte {
	ten, twenty := emptyFrames(toc)
	for units >= 2 {
		count := min(units/2, longestUnits/2)
		row = append(row, []byte{twenty | 3, byte(count)})
		units -= 2 * count
	}
	if units == 1 {
		row = append(row, []byte{ten})
	}
	return row
}

// emptyFrames gives how a packet of one frame of 10 and of 20 ms begins that
// has the mode, bandwidth and channels of toc.
func emptyFrames(toc byte) (ten, twenty byte) {
	config, stereo := toc>>3, toc&4
	switch {
	case config < 12:
		config &^= 3
	case config < 16:
		config &^= 1
	default:
		config = config&^3 + 2
	}
	return config<<3 | stereo, (config+1)<<3 | stereo
}

// page appends a page of whole packets. A second of ours has at most 100
// packets and 8,000 bytes: a page has room for it.
func (o OggOpus) page(file []byte, flags byte, granule int64, sequence uint32, packets ...[]byte) []byte {
	from := len(file)
	file = append(file, "OggS\x00"...)
	file = append(file, flags)
	file = binary.LittleEndian.AppendUint64(file, uint64(granule))
	file = binary.LittleEndian.AppendUint32(file, o.Serial)
	file = binary.LittleEndian.AppendUint32(file, sequence)
	file = append(file, 0, 0, 0, 0, 0) // checksum, number of segments
	for _, p := range packets {
		for range len(p) / 255 {
			file = append(file, 255)
		}
		file = append(file, byte(len(p)%255))
	}
	file[from+oggHead-1] = byte(len(file) - from - oggHead)
	for _, p := range packets {
		file = append(file, p...)
	}
	binary.LittleEndian.PutUint32(file[from+22:], oggSum(file[from:]))
	return file
}

// oggSum is the checksum of a page whose own field is zero: CRC-32 of
// polynomial 04c11db7, highest bit first, from 0.
func oggSum(page []byte) (sum uint32) {
	for _, b := range page {
		sum = sum<<8 ^ oggSums[byte(sum>>24)^b]
	}
	return sum
}

var oggSums = func() (table [256]uint32) {
	for i := range table {
		sum := uint32(i) << 24
		for range 8 {
			top := sum >> 31
			sum = sum<<1 ^ top*0x04c11db7
		}
		table[i] = sum
	}
	return table
}()

// OggReader reads the Opus packets of an Ogg file that somebody else wrote. It
// holds one page and one packet at a time.
type OggReader struct {
	from     io.Reader
	page     [oggPageMost]byte
	segments []byte // of this page that were not read yet
	data     []byte // and their bytes
	serial   uint32
	next     uint32 // number of the page after this one
	ended    bool
	packet   []byte
	skip     int64 // samples at the beginning that are not to be heard
}

const oggPacketMost = 61440 // bytes: what RFC 7845, section 6, says to take

// NewOggReader reads what a file says of itself. The error says that it is no
// Ogg file of one Opus stream of one or two channels.
func NewOggReader(from io.Reader) (*OggReader, error) {
	o := &OggReader{from: from}
	head, err := o.Next()
	if err != nil {
		return nil, fmt.Errorf("the beginning of an ogg file: %w", noEOF(err))
	}
	if len(head) < 19 || string(head[:8]) != "OpusHead" || head[8] > 15 || head[9] < 1 || head[9] > 2 || head[18] != 0 {
		return nil, errors.New("an ogg file that is not of one voice in opus")
	}
	o.skip = int64(binary.LittleEndian.Uint16(head[10:]))
	tags, err := o.Next()
	if err != nil || len(tags) < 8 || string(tags[:8]) != "OpusTags" {
		return nil, errors.New("an ogg file of opus without its tags")
	}
	return o, nil
}

// Skip is how many samples of 48 kHz at the beginning are not to be heard.
func (o *OggReader) Skip() int64 { return o.skip }

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Next gives the next packet, good until Next is called again. io.EOF after
// the last; any other error says that the file is broken, or lost pages.
func (o *OggReader) Next() ([]byte, error) {
	o.packet = o.packet[:0]
	for begun := false; ; {
		for len(o.segments) > 0 {
			size := int(o.segments[0])
			o.packet = append(o.packet, o.data[:size]...)
			o.segments, o.data, begun = o.segments[1:], o.data[size:], true
			if len(o.packet) > oggPacketMost {
				return nil, errors.New("a packet of an ogg file that is too long")
			}
			if size < 255 {
				return o.packet, nil
			}
		}
		continues, err := o.turn()
		if err != nil {
			if begun {
				err = noEOF(err)
			}
			return nil, err
		}
		if continues != begun {
			return nil, errors.New("a page of an ogg file that does not continue the one before")
		}
	}
}

// turn reads the next page.
func (o *OggReader) turn() (continues bool, err error) {
	if o.ended {
		return false, io.EOF
	}
	head := o.page[:oggHead]
	if _, err := io.ReadFull(o.from, head); err != nil {
		return false, noEOF(err) // it has not said that it ends
	}
	if string(head[:5]) != "OggS\x00" || head[5] > 7 {
		return false, errors.New("not a page of an ogg file")
	}
	first, serial, sequence := o.next == 0, binary.LittleEndian.Uint32(head[14:]), binary.LittleEndian.Uint32(head[18:])
	if first {
		o.serial = serial
	}
	if serial != o.serial || sequence != o.next || first != (head[5]&oggBegins != 0) {
		return false, errors.New("a page of an ogg file is missing, or of another stream")
	}
	count := int(head[26])
	lengths := o.page[oggHead : oggHead+count]
	if _, err := io.ReadFull(o.from, lengths); err != nil {
		return false, noEOF(err)
	}
	size := 0
	for _, l := range lengths {
		size += int(l)
	}
	data := o.page[oggHead+count : oggHead+count+size]
	if _, err := io.ReadFull(o.from, data); err != nil {
		return false, noEOF(err)
	}
	sum := binary.LittleEndian.Uint32(head[22:])
	clear(head[22:26])
	if oggSum(o.page[:oggHead+count+size]) != sum {
		return false, errors.New("a page of an ogg file with another checksum")
	}
	o.segments, o.data, o.next, o.ended = lengths, data, o.next+1, head[5]&oggEnds != 0
	return head[5]&oggContinued != 0, nil
}
