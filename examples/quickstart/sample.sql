-- A small library: tables, indexes, a view, triggers that feed a full-text index and an audit trail, WAL mode.

PRAGMA journal_mode = wal;
PRAGMA foreign_keys = ON;

BEGIN;

CREATE TABLE authors (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    born INTEGER
);

CREATE TABLE books (
    id        INTEGER PRIMARY KEY,
    author_id INTEGER NOT NULL REFERENCES authors (id),
    title     TEXT NOT NULL,
    year      INTEGER,
    opening   TEXT
);
CREATE INDEX books_by_author ON books (author_id, year);
CREATE INDEX books_old ON books (year) WHERE year < 1850;

CREATE TABLE loans (
    id      INTEGER PRIMARY KEY,
    book_id INTEGER NOT NULL REFERENCES books (id) ON DELETE CASCADE,
    reader  TEXT NOT NULL,
    taken   TEXT NOT NULL DEFAULT (datetime('now')),
    back    TEXT,
    UNIQUE (book_id, reader, taken)
);
CREATE INDEX loans_open ON loans (book_id) WHERE back IS NULL;

CREATE TABLE history (at TEXT, what TEXT, loan_id INTEGER);

CREATE VIRTUAL TABLE search USING fts5 (title, opening, content = 'books', content_rowid = 'id');

CREATE TRIGGER books_added AFTER INSERT ON books BEGIN
    INSERT INTO search (rowid, title, opening) VALUES (new.id, new.title, new.opening);
END;

CREATE TRIGGER books_changed AFTER UPDATE ON books BEGIN
    INSERT INTO search (search, rowid, title, opening) VALUES ('delete', old.id, old.title, old.opening);
    INSERT INTO search (rowid, title, opening) VALUES (new.id, new.title, new.opening);
END;

CREATE TRIGGER books_removed AFTER DELETE ON books BEGIN
    INSERT INTO search (search, rowid, title, opening) VALUES ('delete', old.id, old.title, old.opening);
END;

CREATE TRIGGER loans_taken AFTER INSERT ON loans BEGIN
    INSERT INTO history VALUES (datetime('now'), 'taken', new.id);
END;

CREATE TRIGGER loans_back AFTER UPDATE OF back ON loans WHEN new.back IS NOT NULL BEGIN
    INSERT INTO history VALUES (datetime('now'), 'back', new.id);
END;

CREATE VIEW open_loans AS
    SELECT loans.id, title, name AS author, reader, taken
    FROM loans JOIN books ON books.id = book_id JOIN authors ON authors.id = author_id
    WHERE back IS NULL;

INSERT INTO authors (id, name, born) VALUES
    (1, 'Herman Melville', 1819),
    (2, 'Jane Austen', 1775),
    (3, 'Mary Shelley', 1797),
    (4, 'Jules Verne', 1828),
    (5, 'Charles Dickens', 1812),
    (6, 'Emily Bronte', 1818);

INSERT INTO books (author_id, title, year, opening) VALUES
    (1, 'Moby-Dick', 1851, 'Call me Ishmael.'),
    (1, 'Bartleby, the Scrivener', 1853, 'I am a rather elderly man.'),
    (2, 'Pride and Prejudice', 1813, 'It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife.'),
    (2, 'Emma', 1815, 'Emma Woodhouse, handsome, clever, and rich, with a comfortable home and happy disposition, seemed to unite some of the best blessings of existence.'),
    (2, 'Persuasion', 1817, 'Sir Walter Elliot, of Kellynch Hall, in Somersetshire, was a man who, for his own amusement, never took up any book but the Baronetage.'),
    (3, 'Frankenstein', 1818, 'You will rejoice to hear that no disaster has accompanied the commencement of an enterprise which you have regarded with such evil forebodings.'),
    (3, 'The Last Man', 1826, 'I am the native of a sea-surrounded nook, a cloud-enshadowed land.'),
    (4, 'Twenty Thousand Leagues under the Sea', 1870, 'The year 1866 was signalised by a remarkable incident.'),
    (4, 'Around the World in Eighty Days', 1872, 'Mr. Phileas Fogg lived, in 1872, at No. 7, Saville Row, Burlington Gardens.'),
    (5, 'A Tale of Two Cities', 1859, 'It was the best of times, it was the worst of times.'),
    (5, 'David Copperfield', 1850, 'Whether I shall turn out to be the hero of my own life, or whether that station will be held by anybody else, these pages must show.'),
    (6, 'Wuthering Heights', 1847, 'I have just returned from a visit to my landlord.');

COMMIT;

-- Two years of lending in one transaction: a database big enough to have some pages.
INSERT INTO loans (book_id, reader, taken, back)
    WITH RECURSIVE days (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM days WHERE n < 4999)
    SELECT
        1 + n * 7 % 12,
        'reader ' || (n * 31 % 211),
        datetime('2024-01-01', (n * 211) || ' minutes'),
        CASE WHEN n < 4950 THEN datetime('2024-01-08', (n * 211) || ' minutes') END
    FROM days;

UPDATE books SET title = 'Moby-Dick; or, The Whale' WHERE title = 'Moby-Dick';
DELETE FROM loans WHERE reader = 'reader 13';
ANALYZE;
