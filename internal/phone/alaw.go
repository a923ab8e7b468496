package phone

// muToA gives for each mu-law byte the A-law byte that sounds nearest to it.
// It is found by trying them all, from the two expansions of ITU-T G.711.
var muToA = nearest()

func nearest() (table [256]byte) {
	for mu := range table {
		wanted, best := fromMu(byte(mu)), 1<<20
		for a := range 256 {
			if off := max(fromA(byte(a))-wanted, wanted-fromA(byte(a))); off < best {
				table[mu], best = byte(a), off
			}
		}
	}
	return table
}

func fromMu(b byte) int {
	b = ^b
	v := (int(b&0x0f)<<3+0x84)<<(b>>4&7) - 0x84
	if b&0x80 != 0 {
		return -v
	}
	return v
}

func fromA(b byte) int {
	b ^= 0x55
	v := int(b&0x0f)<<4 + 8
	if segment := b >> 4 & 7; segment > 0 {
		v = (v + 0x100) << (segment - 1)
	}
	if b&0x80 == 0 {
		return -v
	}
	return v
}
