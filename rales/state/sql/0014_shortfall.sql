-- shortfall: of a series that was closed although images of it are missing, who says so and how many.
ALTER TABLE jobs ADD COLUMN shortfall TEXT NOT NULL DEFAULT '';
