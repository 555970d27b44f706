package admin

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Health serves /healthz (the process lives), /readyz (it takes clients; a store that cannot be written is told and is
// no reason to send clients away), and /metrics. ready returns what stands in the way, "" for nothing; trouble, which may be nil, what is wrong beside that, a line each.
func Health(m *Metrics, ready func() string, store func(context.Context) error, trouble func() []string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if why := ready(); why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		fmt.Fprintln(w, "ready")
		if err := store(ctx); err != nil {
			fmt.Fprintln(w, "warning: the store cannot be written, so no user can be moved; mail goes on:", err)
		}
		if trouble != nil {
			for _, line := range trouble() {
				fmt.Fprintln(w, "warning:", line)
			}
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.Registry, promhttp.HandlerOpts{}))
	return mux
}
