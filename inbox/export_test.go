package inbox

// FoldAll makes x fold every line that can be folded, and read Fresh in pages of one.
func (x *Inbox) FoldAll() { x.foldAbove, x.fewLines = 0, 1 }

// FoldAbove is the number of acknowledged lines above which a sync folds.
const FoldAbove = foldAbove

// Restless makes x read an audience again at once.
func (x *Inbox) Restless() { x.audienceRest = 0 }
