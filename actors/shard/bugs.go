package shard

// Bugs that build tags plant, so that tests can prove that their checkers find
// them. Files named bug_*.go set them.
var (
	countUnconfirmedFollowUps bool
	passivateUnstored         bool
	dropWakeUps               bool
	takeUnknownForSuccess     bool
	takeCachedForStored       bool
)
