package mailgate

// flipMutants are those of the flip machine.
func flipMutants() []mutant {
	const cutover = "./cutover"
	return []mutant{
		{"the delta ahead of the commit", "cutover/flip.go",
			[]edit{{"if err := f.m.mail.Delta(ctx, f.moving(), f.tell(op.Delta)); err != nil {", "if err := error(nil); err != nil {"},
				{"\tcase err == nil:\n\t\treturn nil\n\tcase errors.Is(err, op.ErrNodes)",
					"\tcase err == nil:\n\t\tif f.m.mail != nil {\n\t\t\t_ = f.m.mail.Delta(ctx, f.moving(), f.tell(op.Delta))\n\t\t}\n\t\treturn nil\n\tcase errors.Is(err, op.ErrNodes)"}},
			cutover, []string{"TestOrderOfSteps", "TestRefusedSteps"}},
		{"the acknowledgement of each node that was asked", "cutover/flip.go",
			[]edit{{"if e != nil && err == nil { // the others", "if e != nil && err == nil && n.Name() == m.nodes[0].Name() { // the others"}},
			cutover, []string{"TestHungNode", "TestBadLine"}},
		{"the acknowledgement of a node that has joined", "cutover/flip.go", []edit{{"if slices.Contains(f.stood, x) {", "if slices.Contains(f.stood, x) || x.Name != \"\" {"}},
			cutover, []string{"TestJoinAmid"}},
		{"the look at the registered nodes within the commit", "store/condition.go",
			[]edit{{"if !slices.ContainsFunc(c.Nodes, func(x op.Node) bool { return same(x, n) }) {", "if len(c.Nodes) == 0 {"}},
			cutover, []string{"TestJoinAmid"}},
		{"the look at holds within the commit", "store/condition.go", []edit{{"if slices.Contains(c.Scopes, h.Scope) {", "if false {"}},
			cutover, []string{"TestHoldAtEachStep"}},
	}
}
