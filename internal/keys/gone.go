package keys

// Gone gives a revision that moves whenever a key is destroyed on any node: in
// this process at once, else within a second. It is not seen on a node that
// cannot tell; then nothing that was opened by a key may be kept.
func (k *Keys) Gone() (revision int64, seen bool) {
	return k.gone.Revision(), k.db.Fresh()
}
