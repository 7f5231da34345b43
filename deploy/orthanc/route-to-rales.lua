-- Routes every CT series to Rales, once it is complete.
--
-- Orthanc calls OnStableSeries when no instance of a series arrived for StableAge seconds. CT series
-- go to the modality MODALITY. Results of Rales never go back to Rales: the rule checks the SOP class
-- of the objects and the AE title of their sender. Rales decides which CT series it analyses;
-- `rales status` shows the reason for each rejected series.
--
-- The transfer is a job of Orthanc, with one association for the whole series (see the Explorer).
-- A failed job, for example while Rales is updated, is repeated with growing pauses for a day. This
-- needs Orthanc 1.11.1 or newer, whose LuaHeartBeatPeriod calls OnHeartBeat.
--
-- Sending a series twice is harmless: Rales answers success and does not analyse it again.

local MODALITY = 'rales'     -- the key in DicomModalities of orthanc.json
local RALES_AET = 'RALES'    -- the AE title that Rales sends its results with

local FIRST_PAUSE = 60       -- seconds; doubled after each failure,
local LONGEST_PAUSE = 3600   -- up to this pause,
local GIVE_UP_AFTER = 86400  -- until this time after the first attempt

local CT_STORAGE = {
   ['1.2.840.10008.5.1.4.1.1.2'] = true,    -- CT Image Storage
   ['1.2.840.10008.5.1.4.1.1.2.1'] = true,  -- Enhanced CT Image Storage
   ['1.2.840.10008.5.1.4.1.1.2.2'] = true,  -- Legacy Converted Enhanced CT Image Storage
}

local running = {}  -- job id -> the series that it sends
local waiting = {}  -- series id -> the failure, and when to try again

local function Say(text)
   print('route-to-rales: ' .. text)
end

local function Trim(text)
   return (string.gsub(text or '', '^%s*(.-)%s*$', '%1'))
end

-- The rule: returns true, or false and the reason.
local function IsForRales(series)
   local first = series['Instances'][1]
   if first == nil then
      return false, 'it is empty'
   end
   local metadata = ParseJson(RestApiGet('/instances/' .. first .. '/metadata?expand'))
   if not CT_STORAGE[Trim(metadata['SopClassUid'])] then
      return false, 'it is no CT'
   end
   if Trim(metadata['RemoteAET']) == RALES_AET then
      return false, 'Rales sent it'
   end
   return true
end

local function Send(transfer)
   local body = {}
   body['Resources'] = { transfer.series }
   body['Asynchronous'] = true
   local answer = RestApiPost('/modalities/' .. MODALITY .. '/store', DumpJson(body, true))
   local job = ParseJson(answer)
   if job == nil or job['ID'] == nil then
      Say('series ' .. transfer.series .. ': no job, is "' .. MODALITY .. '" in DicomModalities?')
      return
   end
   transfer.attempts = transfer.attempts + 1
   running[job['ID']] = transfer
   Say('series ' .. transfer.series .. ': attempt ' .. transfer.attempts .. ', job ' .. job['ID'])
end

function OnStableSeries(seriesId, tags, metadata)
   local wanted, reason = IsForRales(ParseJson(RestApiGet('/series/' .. seriesId)))
   if not wanted then
      Say('series ' .. seriesId .. ': not routed, ' .. reason)
      return
   end
   waiting[seriesId] = nil
   Send({ series = seriesId, attempts = 0, since = os.time() })
end

function OnJobSuccess(jobId)
   local transfer = running[jobId]
   if transfer ~= nil then
      running[jobId] = nil
      Say('series ' .. transfer.series .. ': Rales has it')
   end
end

function OnJobFailure(jobId)
   local transfer = running[jobId]
   if transfer == nil then
      return
   end
   running[jobId] = nil
   local now = os.time()
   if now - transfer.since > GIVE_UP_AFTER then
      Say('series ' .. transfer.series .. ': GIVEN UP after ' .. transfer.attempts ..
         ' attempts; send it by hand')
      return
   end
   local pause = math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ^ (transfer.attempts - 1))
   transfer.due = now + pause
   waiting[transfer.series] = transfer
   Say('series ' .. transfer.series .. ': not sent; again in ' .. string.format('%d', pause) .. ' s')
end

function OnHeartBeat()
   local now = os.time()
   local due = {}
   for series, transfer in pairs(waiting) do
      if transfer.due <= now then
         table.insert(due, series)
      end
   end
   for _, series in ipairs(due) do
      local transfer = waiting[series]
      waiting[series] = nil
      Send(transfer)
   end
end
