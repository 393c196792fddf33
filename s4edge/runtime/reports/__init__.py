"""Results for people: tables, Markdown, pages."""
