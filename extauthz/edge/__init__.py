"""How we are reached: Envoy's wire on one side, `Request` and `Decision` on the other."""
