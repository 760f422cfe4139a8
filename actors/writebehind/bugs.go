package writebehind

// writeWhileRereading is a bug that a build tag plants, so that a test can prove
// that its checker finds it: what was put is written before the store has caught
// up with what was dropped.
var writeWhileRereading bool
