// Package people is what tests of convergence put into mailboxes: people with habits (Person, Habit) who work on the side that decides,
// while mail, flags, deletes and moves happen on the follower too, and what both sides have to hold in the end by the rules of
// uid-stable.md, sections 4.3 and 4.4 (Person.Look), read by package corpus. Begin at New and Person.Fill.
package people
