package inbox

// FoldAll makes x fold every line that can be folded, and read a first page of fewLines of Fresh.
func (x *Inbox) FoldAll(fewLines int) { x.foldAbove, x.fewLines = 0, fewLines }

// FoldAbove is the number of acknowledged lines above which a sync folds.
const FoldAbove = foldAbove

// Restless makes x read an audience again at once.
func (x *Inbox) Restless() { x.audienceRest = 0 }
