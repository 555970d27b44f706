package main

import (
	"context"
	"time"

	"mailgate/config"
	wavegate "mailgate/cutover/gate"
)

func (g *gateway) judge(context.Context, string, wavegate.Phase) ([]wavegate.Result, error) {
	return nil, nil
}

func (g *gateway) waive(context.Context, string, config.Gate, string, string, time.Time) error {
	return nil
}
