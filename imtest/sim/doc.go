// Package sim is a world in virtual time: devices, which are client engines on
// disks that survive them, networks that fail in every way, and the model of a
// server (package clienttest). An hour in a tunnel takes milliseconds, nothing runs
// at the same time as anything else, and a seed decides everything.
//
// A World keeps an imtest.History of what happened, which imtest.Check judges.
// Tests here play random schedules of faults, stories with names whose transcripts
// are golden (client/testdata/transcripts), and show that an engine that is broken
// on purpose is found out.
package sim
