with

accounts as (

    select * from {{ ref('stg_saas__accounts') }}

),

final as (

    select
        site,
        account_id,
        account_name,
        country,
        industry,
        time_zone,
        created_at,
        is_deleted,
        deleted_at
    from accounts

)

select * from final
