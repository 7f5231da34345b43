-- Files are named by their place below the folder of the state file: it may be moved. Of whole paths,
-- wherever the folder was when they were written, the end counts.
UPDATE instances SET path = substr(path, -(length(content_digest) + 27))
    WHERE path GLOB '*/spool/????????????????/' || content_digest || '.dcm';

UPDATE jobs SET result = replace(result, substr(
        json_extract(result, '$.overlay'), 1,
        instr(json_extract(result, '$.overlay'), printf('/results/%08d/', id))), '')
    WHERE json_valid(result)
      AND instr(json_extract(result, '$.overlay'), printf('/results/%08d/', id)) > 0;
