"""Reports: context (strings and numbers), charts (SVG), and rendering as HTML, PDF and notebook."""
