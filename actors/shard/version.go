package shard

import (
	"crypto/rand"

	"github.com/tegami-im/tegami/actors/record"
)

// raise queues a Version record in front of the first record of a version that
// this incarnation has not seen in the log: a program that knows only older
// ones stops at it, before it decides otherwise than this one. There may be one
// already, below the checkpoint; another changes nothing.
func (s *shardActor) raise(r *record.Record) {
	version := r.GetApplyVersion()
	if version <= max(s.version, 1) {
		return
	}
	s.version = version
	id := make([]byte, 16)
	_, _ = rand.Read(id) // crypto/rand never fails: it ends the program instead
	s.queue(appendable{record: &record.Record{
		Id:   id,
		Kind: &record.Record_Version{Version: &record.Version{ApplyVersion: version}},
	}})
}
