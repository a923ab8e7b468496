package media

import (
	"strings"
	"testing"
)

// telephoneEvent makes the payload of a telephone-event.
func telephoneEvent(key byte, end bool, duration uint16) []byte {
	b := []byte{byte(strings.IndexByte(pad, key)), 10, byte(duration >> 8), byte(duration)}
	if end {
		b[1] |= 0x80
	}
	return b
}

type tone struct {
	stamp uint32
	data  []byte
}

// press is a key as phones send it: every 20 ms, and the end three times.
func press(stamp uint32, key byte) (all []tone) {
	for d := uint16(160); d <= 800; d += 160 {
		all = append(all, tone{stamp, telephoneEvent(key, false, d)})
	}
	for range 3 {
		all = append(all, tone{stamp, telephoneEvent(key, true, 960)})
	}
	return all
}

func TestKeypad(t *testing.T) {
	t.Parallel()
	one, nine := press(1000, '1'), press(3000, '9')
	for name, c := range map[string]struct {
		packets []tone
		want    string
	}{
		"a key":                    {one, "1"},
		"two keys":                 {append(append([]tone{}, one...), nine...), "19"},
		"the same key twice":       {append(append([]tone{}, one...), press(3000, '1')...), "11"},
		"the start is lost":        {one[4:], "1"},
		"the end is lost":          {one[:3], "1"},
		"one packet only":          {one[6:], "1"},
		"the end alone, no length": {[]tone{{5, telephoneEvent('*', true, 0)}}, "*"},
		"a first without length":   {append([]tone{{1000, telephoneEvent('1', false, 0)}}, one...), "1"},
		"late ones of before":      {append(append(append([]tone{}, one...), nine...), one...), "19"},
		"another key, same time":   {[]tone{{1000, telephoneEvent('1', false, 160)}, {1000, telephoneEvent('2', false, 320)}}, "1"},
		"across the wrap":          {append(press(1<<32-400, '1'), press(500, '2')...), "12"},
		"a very long press":        {[]tone{{1000, telephoneEvent('1', false, 65535)}, {1000 + 65535, telephoneEvent('1', false, 160)}, {1000 + 65535, telephoneEvent('1', true, 320)}}, "1"},
		"cut short":                {[]tone{{1, []byte{1}}, {2, nil}, {3, []byte{1, 0x80, 1}}}, ""},
		"no key: a fax tone":       {[]tone{{1, []byte{32, 0x80, 1, 0}}, {2, []byte{255, 0x80, 1, 0}}}, ""},
		"more than one block":      {[]tone{{1, append(telephoneEvent('#', true, 800), telephoneEvent('1', true, 800)...)}}, "#"},
	} {
		t.Run(name, func(t *testing.T) {
			var k Keypad
			var got []byte
			for _, p := range c.packets {
				if key, pressed := k.Read(p.stamp, p.data); pressed {
					got = append(got, key)
				}
			}
			if string(got) != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
