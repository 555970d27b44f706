package mailtest

import (
	"errors"
	"testing"
)

// TestScram: both ends agree, and each finds out an end that does not know the password.
func TestScram(t *testing.T) {
	for _, m := range []string{"SCRAM-SHA-256", "SCRAM-SHA-1"} {
		s, err := NewScramServer(m, "pencil", 4096)
		if err != nil {
			t.Fatal(err)
		}
		exchange := func(password, gs2 string) (*ScramClient, error) {
			c, s := NewScramClient(m, gs2, "a,b", password), s.Fresh()
			first, err := s.First(c.First())
			if err != nil || s.User != "a=2Cb" {
				t.Fatalf("%q %v", s.User, err)
			}
			proof, err := c.Next(first)
			if err != nil {
				t.Fatal(err)
			}
			last, err := s.Last(proof)
			if err != nil {
				return c, err
			}
			_, err = c.Next(last)
			return c, err
		}
		if c, err := exchange("pencil", "n,,"); err != nil || !c.Verified() {
			t.Errorf("%s: %v", m, err)
		}
		if c, err := exchange("pencil", "y,,"); err != nil || !c.Verified() {
			t.Errorf("%s with y: %v", m, err)
		}
		c, err := exchange("wrong", "n,,")
		if !errors.Is(err, ErrScramProof) || c.Verified() {
			t.Errorf("%s, wrong password: %v", m, err)
		}
		if err := c.Verify("v=AAAA"); !errors.Is(err, ErrScramProof) || c.Verified() {
			t.Errorf("%s, wrong server: %v", m, err)
		}
	}
}

// TestScramVector is the exchange of RFC 7677, section 3.
func TestScramVector(t *testing.T) {
	c := NewScramClient("SCRAM-SHA-256", "n,,", "user", "pencil")
	c.First()
	c.bare = "n=user,r=rOprNGfwEbeRWgbNEkqO"
	got, err := c.Next("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
	if want := "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="; err != nil || got != want {
		t.Errorf("%q %v", got, err)
	}
	if err := c.Verify("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="); err != nil {
		t.Error(err)
	}
}
