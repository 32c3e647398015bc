"""The page that says what an execution found: context (strings and numbers) → charts (SVG) → render (HTML)."""
